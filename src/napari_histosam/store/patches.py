"""The labels of a slide's patches: tumour or normal, set, changed and cleared as undoable steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.records import PATCH_KINDS, PatchLabel, now
from napari_histosam.store import edits, patch_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.geometry.grid import Box
    from napari_histosam.store.patch_rows import Place, Version
    from napari_histosam.store.store import ObjectStore

# Patches whose sides differ by less than this share are of one size: others round to whole px.
SAME = 0.01

_COLUMNS = "x, y, width, height, label, author, time"


@dataclass(frozen=True)
class PatchCount:
    """How many patches of one size (level-0 px) are labelled tumour, and how many normal."""

    width: float
    height: float
    tumour: int
    normal: int

    def fits(self, width: float, height: float) -> bool:
        """Tell whether patches of a given size count as these."""
        return alike(self.width, width) and alike(self.height, height)


class PatchBook:
    """The patch labels of one store.

    A label belongs to a rectangle. Patches of one size do not lie on top of each other: a new label
    takes the place of those whose middle lies in it, so a grid's cell has one label. Patches of
    different sizes know nothing of each other.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._db = store._db

    def put(self, patches: Iterable[PatchLabel], label: str = "Label patches") -> int:
        """Set or change labels as one step; return how many are new or other than before.

        Author and time are those of the step, unless a label brings its own.

        Raises
        ------
        InputError
            A patch has no size or place or another label than tumour and normal, one patch gets
            two labels, or the store is read-only.
        """
        return self._change(_checked(patches), (), label)

    def clear(self, boxes: Iterable[Box], label: str = "Clear patch labels") -> int:
        """Clear the labels of patches as one step; return how many there were.

        Parameters
        ----------
        boxes : iterable of (x, y, width, height)
            Level-0 px. Labels of patches of that size whose middle lies in one are cleared.
        label : str

        Raises
        ------
        InputError
            The store is read-only.
        """
        return self._change((), [(w, h, x, y) for x, y, w, h in boxes], label)

    def all(self) -> list[PatchLabel]:
        """Return all labels, by size, then row by row."""
        return self._read("", ())

    def sized(self, width: float, height: float) -> list[PatchLabel]:
        """Return the labels of patches of one size (level-0 px), row by row."""
        return self._read(
            "WHERE width BETWEEN ? AND ? AND height BETWEEN ? AND ?", _about(width, height)
        )

    def middles(self, width: float, height: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return where patches of one size have their middle, and which of them are tumour.

        Returns
        -------
        (n, 2) float array
            x and y, level-0 px.
        (n,) bool array
        """
        with self._db.read() as con:
            plain = con.cursor()
            plain.row_factory = None
            rows = plain.execute(
                "SELECT x + width / 2, y + height / 2, label = 'tumour' FROM patches "
                "WHERE width BETWEEN ? AND ? AND height BETWEEN ? AND ?",
                _about(width, height),
            ).fetchall()
        found = np.array(rows, np.float64).reshape(-1, 3)
        return found[:, :2], found[:, 2] > 0

    def counts(self) -> list[PatchCount]:
        """Return how many labels there are, by size; the largest number first."""
        with self._db.read() as con:
            rows = con.execute(
                "SELECT width, height, sum(label = 'tumour'), sum(label = 'normal') FROM patches "
                "GROUP BY width, height ORDER BY count(*) DESC, width"
            ).fetchall()
        return [PatchCount(*row) for row in rows]

    def count(self, width: float, height: float) -> PatchCount:
        """Return how many patches of one size (level-0 px) are labelled."""
        fitting = [one for one in self.counts() if one.fits(width, height)]
        tumour, normal = (sum(getattr(one, kind) for one in fitting) for kind in PATCH_KINDS)
        return PatchCount(width, height, tumour, normal)

    # --- inside ----------------------------------------------------------------------------

    def _read(self, where: str, values: Sequence[float]) -> list[PatchLabel]:
        with self._db.read() as con:
            rows = con.execute(
                f"SELECT {_COLUMNS} FROM patches {where} ORDER BY width, height, y, x", values
            ).fetchall()
        return [PatchLabel(*row) for row in rows]

    def _change(self, new: Sequence[PatchLabel], cleared: Sequence[Place], label: str) -> int:
        store, at = self._store, now()
        wanted: dict[Place, Version] = {
            (one.width, one.height, one.x, one.y): (
                one.label,
                one.author or store.author,
                one.time or at,
            )
            for one in new
        }
        with store._stepping() as emit, self._db.write() as con:
            changes = _changes(con, wanted, [*wanted, *cleared])
            if not changes:
                return 0
            step = edits.begin(con, label, store.author)
            patch_rows.note(con, step, changes.items())
            patch_rows.swap(con, step)
            emit(edits.finish(con, step, label, {}))
        return sum(version != patch_rows.NONE for version in changes.values()) or len(changes)


def alike(one: float, other: float) -> bool:
    """Tell whether two sides of patches count as the same."""
    return abs(one - other) <= SAME * max(one, other)


def _about(width: float, height: float) -> tuple[float, float, float, float]:
    return (width * (1 - SAME), width / (1 - SAME), height * (1 - SAME), height / (1 - SAME))


def _checked(patches: Iterable[PatchLabel]) -> list[PatchLabel]:
    found: dict[tuple[float, ...], PatchLabel] = {}
    for one in patches:
        place = (one.x, one.y, one.width, one.height)
        if not all(math.isfinite(v) for v in place) or min(one.width, one.height) <= 0:
            raise InputError(f"A patch at {place} has no place or size; mend it.")
        if one.label not in PATCH_KINDS:
            raise InputError(f"A patch is tumour or normal, not {one.label!r}; mend it.")
        if found.setdefault(place, one).label != one.label:
            raise InputError(
                f"The patch at x {one.x:g}, y {one.y:g} is called both tumour and normal; a patch "
                "has one label."
            )
    return list(found.values())


def _changes(
    con: sqlite3.Connection, wanted: dict[Place, Version], places: Sequence[Place]
) -> dict[Place, Version]:
    """Return place → new version of all that has to change, so that places hold what is wanted."""
    changes: dict[Place, Version] = {}
    for size in dict.fromkeys(place[:2] for place in places):
        there = _known(con, *size)
        near = _Near(there, size)
        for place in (one for one in places if one[:2] == size):
            for other in near.of(place):
                if other not in wanted:
                    changes[other] = patch_rows.NONE
            new = wanted.get(place)
            if new is None:
                continue
            old = there.get(place)
            if old is None or old[0] != new[0]:
                changes[place] = new
    return changes


def _known(con: sqlite3.Connection, width: float, height: float) -> dict[Place, Any]:
    rows = con.execute(
        "SELECT width, height, x, y, label, author, time FROM patches "
        "WHERE width BETWEEN ? AND ? AND height BETWEEN ? AND ?",
        _about(width, height),
    )
    return {tuple(row[:4]): tuple(row[4:]) for row in map(tuple, rows)}


class _Near:
    """Finds the patches whose middle lies in a rectangle of their size."""

    def __init__(self, places: Iterable[Place], size: tuple[float, float]) -> None:
        self._size = size
        self._by_cell: dict[tuple[int, int], list[Place]] = {}
        for place in places:
            self._by_cell.setdefault(self._cell(*_middle(place)), []).append(place)

    def of(self, place: Place) -> list[Place]:
        x, y = _middle(place)
        width, height = self._size
        column, row = self._cell(x, y)
        return [
            other
            for i in (column - 1, column, column + 1)
            for j in (row - 1, row, row + 1)
            for other in self._by_cell.get((i, j), ())
            # A hair less than half, so that the next cell of a grid is never meant.
            if abs(_middle(other)[0] - x) < 0.499 * width
            and abs(_middle(other)[1] - y) < 0.499 * height
        ]

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        return math.floor(x / self._size[0]), math.floor(y / self._size[1])


def _middle(place: Place) -> tuple[float, float]:
    width, height, x, y = place
    return x + width / 2, y + height / 2
