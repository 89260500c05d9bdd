"""A byte-bounded, thread-safe memory of decoded tiles, least recently used first out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray


class TileCache:
    """Keeps arrays up to a number of bytes; one cache may serve several slides.

    Parameters
    ----------
    max_bytes : int
        The arrays held never add up to more. An array larger than that is handed out, not kept.
    """

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Return what is held under a key, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def put(self, key: Hashable, array: NDArray[Any]) -> NDArray[Any]:
        """Keep an array (made read-only) and return it."""
        array.flags.writeable = False
        if array.nbytes > self.max_bytes:
            return array
        with self._lock:
            before = self._held.pop(key, None)
            if before is not None:
                self._bytes -= before.nbytes
            self._held[key] = array
            self._bytes += array.nbytes
            while self._bytes > self.max_bytes:
                _, gone = self._held.popitem(last=False)
                self._bytes -= gone.nbytes
        return array

    def get_or_make(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is held, or make it; threads that want the same key wait for one maker.

        ``make`` may itself ask for other keys as long as no chain of keys leads back to this one.
        """
        found = self.get(key)
        if found is not None:
            return found
        with self._lock:
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            found = self.get(key)
            if found is None:
                try:
                    found = self.put(key, make())
                finally:
                    with self._lock:
                        self._making.pop(key, None)
        return found

    def drop(self, owner: Hashable) -> None:
        """Forget every key that is a tuple beginning with ``owner``."""
        with self._lock:
            for key in [k for k in self._held if isinstance(k, tuple) and k[0] == owner]:
                self._bytes -= self._held.pop(key).nbytes
