"""All objects' boxes in arrays, kept in step with the store, so that a tile finds its objects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from napari_histosam.store.edits import Bounds, Change
    from napari_histosam.store.spatial import Boxes
    from napari_histosam.store.store import ObjectStore

_RELOAD_SHARE = 0.2  # with more changes than this, reading all is quicker than one by one


class Hits(NamedTuple):
    """The objects that a rectangle meets: (n,) numbers and classes, (n, 4) bounds, (n,) flags."""

    numbers: NDArray[np.int64]
    classes: NDArray[np.int64]
    bounds: NDArray[np.float64]
    selected: NDArray[np.bool_]


class BoxIndex:
    """Boxes of all objects in a store.

    Parameters
    ----------
    store : ObjectStore

    Notes
    -----
    An edit only leaves its ids here; the next look-up, on whatever thread, reads what they became.
    So an edit costs the same with 10 and with 100,000 objects, and the first load (about 0.3 s at
    100,000) happens on the thread that draws.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._stale_lock = threading.Lock()
        self._stale: set[str] = set()
        self._all_stale = True
        self._fill(store.boxes(ids=()))
        store.changed.connect(self._note)

    def _note(self, change: Change) -> None:
        with self._stale_lock:
            self._all_stale |= change.reset
            self._stale.update(change.added, change.removed, change.updated)

    def within(
        self, bounds: Bounds, selected: Collection[str] = (), hidden: Iterable[str] = ()
    ) -> Hits:
        """Return the objects whose boxes meet a rectangle (level-0 px), without the hidden ones."""
        x0, y0, x1, y1 = bounds
        with self._lock:
            self._catch_up()
            n = self._n
            box = self._bounds[:, :n]
            keep = (box[2] >= x0) & (box[0] <= x1) & (box[3] >= y0) & (box[1] <= y1)
            keep[[self._slots[key] for key in hidden if key in self._slots]] = False
            at = np.flatnonzero(keep)
            chosen = np.zeros(n, bool)
            chosen[[self._slots[key] for key in selected if key in self._slots]] = True
            return Hits(self._numbers[at], self._classes[at], box[:, at].T, chosen[at])

    def bounds_of(self, ids: Iterable[str]) -> list[Bounds]:
        """Return the bounds of objects; those that are gone are left out."""
        with self._lock:
            self._catch_up()
            slots = [self._slots[key] for key in ids if key in self._slots]
            return [(x0, y0, x1, y1) for x0, y0, x1, y1 in self._bounds[:, slots].T.tolist()]

    def _catch_up(self) -> None:
        with self._stale_lock:
            stale, everything = self._stale, self._all_stale
            self._stale, self._all_stale = set(), False
        if everything or len(stale) > max(1000, _RELOAD_SHARE * self._n):
            self._fill(self._store.boxes())
        elif stale:
            found = self._store.boxes(ids=stale)
            for key in stale.difference(found.ids):
                self._drop(key)
            for i, key in enumerate(found.ids):
                self._put(key, found.numbers[i], found.classes[i], found.bounds[i])

    def _fill(self, boxes: Boxes) -> None:
        self._n = len(boxes.ids)
        self._ids = boxes.ids
        self._slots = {key: i for i, key in enumerate(boxes.ids)}
        self._numbers = boxes.numbers
        self._classes = boxes.classes
        self._bounds = np.ascontiguousarray(boxes.bounds.T)

    def _put(self, key: str, number: int, group: int, bounds: NDArray[np.float64]) -> None:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._n
            if slot == len(self._numbers):
                more = max(64, slot // 2)
                self._numbers = np.pad(self._numbers, (0, more))
                self._classes = np.pad(self._classes, (0, more))
                self._bounds = np.pad(self._bounds, ((0, 0), (0, more)))
            self._ids.append(key)
            self._slots[key] = slot
            self._n += 1
        self._numbers[slot], self._classes[slot] = number, group
        self._bounds[:, slot] = bounds

    def _drop(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        last = self._n = self._n - 1
        moved = self._ids.pop()
        if slot != last:
            self._ids[slot] = moved
            self._slots[moved] = slot
            for array in (self._numbers, self._classes):
                array[slot] = array[last]
            self._bounds[:, slot] = self._bounds[:, last]
