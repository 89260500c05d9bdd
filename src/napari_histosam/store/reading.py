"""Everything that can be asked of a store; usable from any thread, also while another one edits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import shapely

from napari_histosam.errors import InputError
from napari_histosam.store import classes as _classes
from napari_histosam.store import edits, reviews, spatial, table
from napari_histosam.store.codec import decode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.records import ObjectClass, SlideObject
    from napari_histosam.store.database import Database
    from napari_histosam.store.edits import Bounds

WHOLE = (
    "SELECT objects.*, bodies.geometry, bodies.provenance, bodies.info, "
    "classes.name AS class_name FROM objects JOIN bodies USING(number) "
    "JOIN classes ON classes.number = objects.class"
)
"""Selects objects with all their columns."""

_KINDS: dict[int, Literal["added", "changed", "removed"]] = {
    edits.ADD: "added",
    edits.CHANGE: "changed",
    edits.REMOVE: "removed",
}


@dataclass(frozen=True)
class HistoryEntry:
    """One edit of an object: when (ISO 8601, UTC), its step's name, by whom, and what it did."""

    time: str
    label: str
    author: str
    kind: Literal["added", "changed", "removed"]


class StoreReader:
    """The reading half of `ObjectStore`.

    Parameters
    ----------
    database : Database
        The open file.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def path(self) -> Path | None:
        """The file; None for a store in memory."""
        return self._db.path

    @property
    def read_only(self) -> bool:
        """Whether edits are refused; `read_only_reason` says why."""
        return self._db.read_only

    @property
    def read_only_reason(self) -> str | None:
        """One sentence for the user; None if the store may be edited."""
        return self._db.read_only_reason

    # --- objects ---------------------------------------------------------------------------

    def get(self, key: str) -> SlideObject:
        """Return one object by its id.

        Raises
        ------
        InputError
            There is no such object.
        """
        found = self.get_many([key])
        if not found:
            raise InputError(f"There is no object {key} in this slide; it may have been deleted.")
        return found[0]

    def get_many(self, ids: Iterable[str]) -> list[SlideObject]:
        """Return objects in the order of their ids; ids that are gone are left out."""
        keys = list(ids)
        with self._db.read() as con:
            rows = con.execute(
                f"{WHOLE} WHERE objects.id IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
            ).fetchall()
        found = {item.id: item for item in _objects(rows)}
        return [found[key] for key in keys if key in found]

    def ids(self) -> list[str]:
        """Return all ids, oldest object first."""
        with self._db.read() as con:
            return [row[0] for row in con.execute("SELECT id FROM objects ORDER BY number")]

    def count(
        self, class_name: str | table.AnyValue | None = ..., source: str | table.AnyValue = ...
    ) -> int:
        """Count objects, from kept tallies.

        Parameters
        ----------
        class_name : str or None or ...
            One class; None counts the unclassified, ``...`` all.
        source : str or ...
            One of `records.Source`.
        """
        with self._db.read() as con:
            return table.tallied(con, class_name, source)

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, key: object) -> bool:
        with self._db.read() as con:
            row = con.execute("SELECT 1 FROM objects WHERE id = ?", (str(key),)).fetchone()
        return row is not None

    def iterate(self, batch: int = 1000) -> Iterator[SlideObject]:
        """Yield all objects, oldest first, as they are now, whatever is edited meanwhile.

        Parameters
        ----------
        batch : int
            Objects read at a time; bounds the memory used.
        """
        running = self._iterate(batch)
        next(running)  # takes the snapshot at the call, not at the first object
        return running  # type: ignore[return-value]  # only the first item is None

    def _iterate(self, batch: int) -> Iterator[SlideObject | None]:
        with self._db.snapshot() as con:
            yield None
            rows = con.execute(f"{WHOLE} ORDER BY objects.number")
            while part := rows.fetchmany(batch):
                yield from _objects(part)

    def history(self, key: str) -> list[HistoryEntry]:
        """Return the edits in force of one object, oldest first.

        Raises
        ------
        InputError
            There is no such object.
        """
        with self._db.read() as con:
            at = con.execute("SELECT number FROM objects WHERE id = ?", (key,)).fetchone()
            if at is None:
                raise InputError(f"There is no object {key} in this slide; it may be deleted.")
            rows = con.execute(
                "SELECT time, label, author, kind FROM deltas JOIN edits "
                "ON edits.number = deltas.edit WHERE deltas.number = ? AND edit <= ? "
                "ORDER BY edit, row",
                (at[0], edits.cursor(con)),
            ).fetchall()
        return [HistoryEntry(row[0], row[1], row[2], _KINDS[row[3]]) for row in rows]

    # --- places ----------------------------------------------------------------------------

    def query(self, bounds: Bounds) -> list[SlideObject]:
        """Return the objects that meet a rectangle (x0, y0, x1, y1; level-0 px), oldest first."""
        box = shapely.box(*bounds)
        with self._db.read() as con:
            numbers = spatial.numbers_in(con, bounds)
            rows = con.execute(
                f"{WHOLE} WHERE objects.number IN (SELECT value FROM json_each(?)) "
                "ORDER BY objects.number",
                (json.dumps(numbers),),
            ).fetchall()
        return [item for item in _objects(rows) if box.intersects(item.geometry)]

    def at(self, x: float, y: float, tolerance: float = 0.0) -> str | None:
        """Return the id of the smallest object at a point (level-0 px); None if there is none.

        Parameters
        ----------
        x, y : float
        tolerance : float
            How far (level-0 px) from an outline, a line or a point still counts.
        """
        with self._db.read() as con:
            return spatial.topmost(con, x, y, tolerance)

    def boxes(self, ids: Iterable[str] | None = None) -> spatial.Boxes:
        """Return ids, numbers, classes and bounds as arrays, of all objects or of some."""
        with self._db.read() as con:
            return spatial.boxes(con, ids=ids)

    def geometries(self, numbers: Sequence[int]) -> NDArray[np.object_]:
        """Return shapely geometries by running number; None where an object is gone."""
        with self._db.read() as con:
            return spatial.geometries(con, numbers)

    def shapes_in(self, bounds: Bounds) -> spatial.Shapes:
        """Return what is needed to draw the objects whose bounds meet a rectangle (level-0 px)."""
        with self._db.read() as con:
            found = spatial.boxes(con, bounds=bounds)
            return spatial.Shapes(found, spatial.geometries(con, found.numbers.tolist()))

    # --- table -----------------------------------------------------------------------------

    def rows(
        self,
        offset: int = 0,
        limit: int = 100,
        order_by: table.OrderBy = "number",
        descending: bool = False,
        *,
        text: str = "",
        class_name: str | table.AnyValue | None = ...,
        source: str | table.AnyValue = ...,
    ) -> list[table.Row]:
        """Return one page of the object table; the filters are those of `table.Listing`."""
        listing = table.Listing(order_by, descending, text, class_name, source)
        with self._db.read() as con:
            return table.page(con, listing, offset, limit)

    def row_count(
        self,
        *,
        text: str = "",
        class_name: str | table.AnyValue | None = ...,
        source: str | table.AnyValue = ...,
    ) -> int:
        """Return how many rows the filtered table has."""
        with self._db.read() as con:
            return table.total(con, table.Listing("number", False, text, class_name, source))

    def position_of(
        self,
        key: str,
        order_by: table.OrderBy = "number",
        descending: bool = False,
        *,
        text: str = "",
        class_name: str | table.AnyValue | None = ...,
        source: str | table.AnyValue = ...,
    ) -> int | None:
        """Return the row of an object in the table, from 0; None if the filters leave it out."""
        listing = table.Listing(order_by, descending, text, class_name, source)
        with self._db.read() as con:
            return table.position(con, listing, key)

    # --- reviews ---------------------------------------------------------------------------

    def review_columns(self, after: int = 0) -> list[tuple[Any, ...]]:
        """Return the next chunk of what `reviews.columns` says, of objects numbered > ``after``."""
        with self._db.read() as con:
            return reviews.columns(con, after, reviews.CHUNK)

    def review_outlines(self, numbers: Sequence[int]) -> list[tuple[int, bytes, bytes | None]]:
        """Return what `reviews.outlines` says of some objects; those that are gone are left out."""
        with self._db.read() as con:
            return reviews.outlines(con, numbers)

    def review_states(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Return id → "accepted", "corrected" or None, of those objects that are there."""
        with self._db.read() as con:
            return reviews.states(con, json.dumps(list(ids)))

    def review_counts(self) -> dict[str | None, int]:
        """Count objects by review; None stands for "not reviewed"."""
        with self._db.read() as con:
            return reviews.counts(con)

    def rejected(self) -> list[reviews.Rejected]:
        """Return what was rejected and has not come back, oldest first."""
        with self._db.read() as con:
            return reviews.rejected(con)

    # --- classes and settings --------------------------------------------------------------

    def classes(self) -> list[ObjectClass]:
        """Return the classes in the order of the list."""
        return list(self.class_numbers().values())

    def class_numbers(self) -> dict[int, ObjectClass]:
        """Return class number → class, as `boxes` numbers them (0, "no class", is left out)."""
        with self._db.read() as con:
            return _classes.numbered(con)

    def counts_by_class(self) -> dict[str | None, int]:
        """Return class name → number of objects; None stands for the unclassified."""
        with self._db.read() as con:
            return _classes.counts(con)

    def setting(self, key: str, default: Any = None) -> Any:
        """Return a kept value of this slide (JSON), or the default."""
        with self._db.read() as con:
            row = con.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    # --- undo line and health --------------------------------------------------------------

    @property
    def undo_label(self) -> str | None:
        """The name of the step that `undo` would take back; None if there is none."""
        with self._db.read() as con:
            step = edits.last_done(con)
        return step.label if step else None

    @property
    def redo_label(self) -> str | None:
        """The name of the step that `redo` would do again; None if there is none."""
        with self._db.read() as con:
            step = edits.next_undone(con)
        return step.label if step else None

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back, and it may be."""
        return not self.read_only and self.undo_label is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again, and it may be."""
        return not self.read_only and self.redo_label is not None

    def backup_to(self, target: sqlite3.Connection) -> None:
        """Copy the whole store, as it is now, into another SQLite connection."""
        with self._db.snapshot() as con:
            con.backup(target)

    def integrity_check(self) -> list[str]:
        """Return what is wrong with the file; an empty list if all is well.

        SQLite's own check, then whether the tables agree with each other (an object without a
        body or box, a tally that does not add up). Reads the whole file.
        """
        with self._db.read() as con:
            wrong = [str(row[0]) for row in con.execute("PRAGMA integrity_check")]
            wrong = [] if wrong == ["ok"] else wrong
            wrong += [
                f"foreign key: {tuple(row)}" for row in con.execute("PRAGMA foreign_key_check")
            ]
            wrong += _disagreements(con)
        return wrong


def _objects(rows: Sequence[sqlite3.Row]) -> Iterator[SlideObject]:
    shapes = shapely.from_wkb([row["geometry"] for row in rows])
    for row, shape in zip(rows, shapes, strict=True):
        yield decode(row, row["class_name"] or None, shape)


def _disagreements(con: sqlite3.Connection) -> Iterator[str]:
    for table_name in ("bodies", "boxes"):
        odd = con.execute(
            f"SELECT (SELECT count(*) FROM objects WHERE number NOT IN "
            f"(SELECT number FROM {table_name})) + (SELECT count(*) FROM {table_name} "
            "WHERE number NOT IN (SELECT number FROM objects))"
        ).fetchone()[0]
        if odd:
            yield f"{odd} objects do not agree with {table_name}"
    odd = con.execute(
        "SELECT count(*) FROM objects JOIN boxes USING(number) WHERE boxes.x0 > objects.x0 "
        "OR boxes.x1 < objects.x1 OR boxes.y0 > objects.y0 OR boxes.y1 < objects.y1"
    ).fetchone()[0]
    if odd:
        yield f"{odd} objects lie outside their boxes"
    real = "SELECT class, source, count(*) FROM objects GROUP BY class, source"
    kept = "SELECT class, source, count FROM tally WHERE count <> 0"
    if (
        con.execute(f"SELECT 1 FROM ({real} EXCEPT {kept})").fetchone()
        or con.execute(f"SELECT 1 FROM ({kept} EXCEPT {real})").fetchone()
    ):
        yield "the tally does not add up"
