"""Loads display tiles in the background, the newest view first, and keeps them within a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Key = tuple[int, int, int]
    Tile = NDArray[Any]

# A tile that was wanted this many views ago and not since is no longer worth its decoding.
STALE_VIEWS = 2


class TileLoader:
    """A byte-bounded store of display tiles that fills itself in the background.

    Parameters
    ----------
    read : callable
        ``read(level, row, column)`` returns the exact tile; called from worker threads.
    arrived : callable
        ``arrived(key)`` after a tile came in; called from worker threads.
    max_bytes : int
        Tiles beyond this are dropped, the least recently used first.
    pinned : int
        The level whose tiles are loaded whatever the user looks at since.
    threads : int
    """

    def __init__(
        self,
        read: Callable[[int, int, int], Tile],
        arrived: Callable[[Key], None],
        *,
        max_bytes: int,
        pinned: int,
        threads: int = 2,
    ) -> None:
        self._pinned = pinned
        self._read = read
        self._arrived = arrived
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Key, Tile] = OrderedDict()
        self._stale: set[Key] = set()
        self._wanted: OrderedDict[Key, int] = OrderedDict()
        self._loading: set[Key] = set()
        self._view = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="histosam-tiles")

    def get(self, key: Key) -> Tile | None:
        """Return a tile if it is here (perhaps an outdated one), else None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def outdated(self, key: Key) -> bool:
        """Whether a tile is here but no longer true."""
        with self._lock:
            return key in self._stale

    def want(self, keys: Sequence[Key], ring: Sequence[Key] = ()) -> None:
        """Ask for the tiles of a new view and, after them, for the ring around it."""
        with self._lock:
            if self._closed:
                return
            self._view += 1
            fresh = 0
            # What is asked for last is loaded first, so the ring goes in before the view.
            for key in [*ring, *keys]:
                if (key in self._tiles and key not in self._stale) or key in self._loading:
                    continue
                self._wanted[key] = self._view
                self._wanted.move_to_end(key)
                fresh += 1
        for _ in range(fresh):
            self._pool.submit(self._load_one)

    def put(self, key: Key, tile: Tile) -> None:
        """Keep a tile."""
        with self._lock:
            self._keep(key, tile)

    def known(self) -> list[Key]:
        """Return the keys of all tiles that are here."""
        with self._lock:
            return list(self._tiles)

    def outdate(self, keys: list[Key]) -> list[Key]:
        """Mark tiles as outdated: they are shown until their successors come in.

        Returns
        -------
        list of tuple
            Those of them that were loaded or are being loaded.
        """
        with self._lock:
            known = [k for k in keys if k in self._tiles or k in self._loading]
            self._stale.update(known)
            return known

    @property
    def idle(self) -> bool:
        """Whether no tile is wanted or being loaded."""
        with self._lock:
            return not self._wanted and not self._loading

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._bytes

    def close(self) -> None:
        """Forget what is wanted and end the threads after their present tile."""
        with self._lock:
            self._closed = True
            self._wanted.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load_one(self) -> None:
        with self._lock:
            key = self._next()
            if key is None:
                return
            self._loading.add(key)
            self._stale.discard(key)
        try:
            tile = self._read(*key)
        except Exception:  # noqa: BLE001 - a tile that cannot be read stays a coarse one
            tile = None
        with self._lock:
            self._loading.discard(key)
            if tile is not None and not self._closed:
                self._keep(key, tile)
            again = key in self._stale
            if again:
                self._wanted[key] = self._view
        if again:
            self._submit_quietly()
        if tile is not None and not self._closed:
            self._arrived(key)

    def _submit_quietly(self) -> None:
        with self._lock:
            if not self._closed:
                self._pool.submit(self._load_one)

    def _next(self) -> Key | None:
        while self._wanted and not self._closed:
            key, view = self._wanted.popitem()
            worth = view > self._view - STALE_VIEWS or key[0] == self._pinned
            if worth and key not in self._loading:
                return key
        return None

    def _keep(self, key: Key, tile: Tile) -> None:
        old = self._tiles.pop(key, None)
        if old is not None:
            self._bytes -= old.nbytes
        self._tiles[key] = tile
        self._bytes += tile.nbytes
        while self._bytes > self._max_bytes and len(self._tiles) > 1:
            dropped_key, dropped = self._tiles.popitem(last=False)
            self._bytes -= dropped.nbytes
            self._stale.discard(dropped_key)
