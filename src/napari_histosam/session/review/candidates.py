"""The objects that could be reviewed, as columns that were read chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from napari_histosam.store import ObjectStore

# They hold objects but are none.
_CONTAINERS = ("tile", "tmaCore")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Objects as columns, in the order of their running numbers.

    Parameters
    ----------
    numbers : (n,) int64 array
        Running numbers in the store.
    ids : tuple of str
    classes : tuple of (str or None)
        Their names; None is "unclassified".
    sources : tuple of str
        See `records.Source`.
    scores : (n,) float64 array
        The model's predicted IoU; NaN where there is none.
    areas : (n,) float64 array
        Level-0 px².
    bounds : (n, 4) float64 array
        x0, y0, x1, y1 in level-0 px.
    reviews : tuple of (str or None)
        ``"accepted"``, ``"corrected"`` or None.
    """

    numbers: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str | None, ...]
    sources: tuple[str, ...]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
    bounds: NDArray[np.float64]
    reviews: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> NDArray[np.int64]:
        """A number per class, (n,)."""
        known: dict[str | None, int] = {}
        return np.array([known.setdefault(name, len(known)) for name in self.classes], np.int64)

    @property
    def vouched(self) -> NDArray[np.bool_]:
        """Whether a person stands for the object: reviewed, drawn or prompted by one; (n,)."""
        return np.array(
            [
                review is not None or source in ("manual", "prompted")
                for review, source in zip(self.reviews, self.sources, strict=True)
            ],
            bool,
        )

    @classmethod
    def of(cls, rows: Iterable[tuple[object, ...]]) -> Candidates:
        """Return what `store.reviews.columns` gave, as arrays."""
        found = list(rows)
        if not found:
            none = np.empty(0)
            return cls(np.empty(0, np.int64), (), (), (), none, none, np.empty((0, 4)), ())
        numbers, ids, classes, sources, scores, areas, *sides, reviews, _ = zip(*found, strict=True)
        return cls(
            np.array(numbers, np.int64),
            ids,
            classes,
            sources,
            np.array([np.nan if s is None else s for s in scores], np.float64),
            np.array(areas, np.float64),
            np.array(sides, np.float64).T,
            reviews,
        )


def read_candidates(
    store: ObjectStore,
    step: Callable[[int], None] = lambda done: None,
    left_out: Callable[[str | None], bool] = lambda name: False,
) -> Candidates:
    """Read the objects with an area.

    Parameters
    ----------
    store : ObjectStore
        Read from any thread.
    step : callable of int
        Told after each chunk how many objects were read; may raise to stop.
    left_out : callable of (str or None)
        Says of a class whether its outlines mark something else than objects.
    """
    rows: list[tuple[object, ...]] = []
    after, done = 0, 0
    while part := store.review_columns(after):
        after, done = part[-1][0], done + len(part)
        rows += [r for r in part if r[5] > 0 and r[-1] not in _CONTAINERS and not left_out(r[2])]
        step(done)
    return Candidates.of(rows)
