"""The optimistic tile pyramid: answers at once from the best tile at hand, then gets better.

napari slices a multiscale layer on the thread that draws. Each level here is an array to napari,
but an answer never waits for a file or a rasteriser: where a tile is missing, the nearest coarser
one is enlarged in its place, the real one is loaded in the background, and the owner is told to
refresh. Exact pixels come from ``slide.read_region``, never from here; ``numpy.asarray(level)``
is exact too.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from psygnal import Signal

from napari_histosam.viewer.level import OptimisticLevel
from napari_histosam.viewer.tile_loader import TileLoader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.jobs import Dispatcher

    Key = tuple[int, int, int]

# Tiles that come in within this time are shown in one refresh.
REFRESH_SECONDS = 0.08


class TilePyramid(Protocol):
    """Levels of tiles, finest first: a slide's pixels or a store's objects."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Height and width of each level."""
        ...

    @property
    def tile(self) -> int:
        """Side of a tile in px."""
        ...

    def read_tile(self, level: int, row: int, col: int) -> NDArray[Any]:
        """Return a tile, clipped at the level's edge: (h, w) or (h, w, 3). Any thread."""
        ...


class OptimisticPyramid:
    """A tile pyramid for napari.

    Parameters
    ----------
    tiles : TilePyramid
    dispatcher : Dispatcher, optional
        Brings refreshes to the window's thread. Without one every read is exact and waits.
    channels : int
        3 for RGB, 0 for labels.
    fill : int or tuple of int
        What stands where nothing is known yet.
    max_bytes : int
        Budget for display tiles.
    threads : int
    dtype : type
        Of the tiles.

    Notes
    -----
    ``improved()`` is emitted on the window's thread, throttled, when a refresh would show more.
    """

    improved = Signal()

    def __init__(
        self,
        tiles: TilePyramid,
        dispatcher: Dispatcher | None,
        *,
        channels: int = 3,
        fill: int | tuple[int, int, int] = 0,
        max_bytes: int = 256 << 20,
        threads: int = 2,
        dtype: type[np.generic] = np.uint8,
    ) -> None:
        self.tiles = tiles
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self._dispatcher = dispatcher
        self._fill = fill
        self._announced = False
        self._lock = threading.Lock()
        self._last_view: list[Key] = []
        self._coarsest = len(tiles.shapes) - 1
        self._loader = TileLoader(
            tiles.read_tile,
            self._arrived,
            max_bytes=max_bytes,
            pinned=self._coarsest,
            threads=threads,
        )
        # napari keeps the coarsest level as one array for good. This one is ours, so that what
        # comes in later shows in it.
        self.base = self._blank(*tiles.shapes[self._coarsest])
        self.levels = [OptimisticLevel(self, i) for i in range(len(tiles.shapes))]
        self._load_base()

    def read(self, level: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Return rows y0:y1 and columns x0:x1 of a level, as good as is known now."""
        if level == self._coarsest:
            return self.base[y0:y1, x0:x1]
        if self._dispatcher is None:
            return self.exact(level, y0, y1, x0, x1)
        keys = self._keys(level, y0, y1, x0, x1)
        out = self._blank(y1 - y0, x1 - x0)
        missing = []
        for key in keys:
            tile = self._loader.get(key)
            if tile is None:
                missing.append(key)
                tile = self._stand_in(key)
            elif self._loader.outdated(key):
                missing.append(key)
            self._paste(out, tile, key, y0, x0)
        self._loader.want(missing, self._ring(level, keys))
        with self._lock:
            self._last_view = keys
        return out

    def exact(self, level: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Return rows y0:y1 and columns x0:x1 of a level from the real tiles, however long."""
        out = self._blank(y1 - y0, x1 - x0)
        for key in self._keys(level, y0, y1, x0, x1):
            self._paste(out, self.tiles.read_tile(*key), key, y0, x0)
        return out

    def outdate(self, keys: list[Key]) -> None:
        """Have these tiles made anew; the old ones stay on screen until then."""
        self._loader.outdate(keys)
        base = [k for k in keys if k[0] == self._coarsest]
        if self._dispatcher is None:
            for key in base:
                self._into_base(key, self.tiles.read_tile(*key))
            self.improved.emit()
            return
        with self._lock:
            visible = set(self._last_view)
        # Only what is on screen is made at once; the rest when it is looked at.
        self._loader.want([k for k in keys if k in visible or k[0] == self._coarsest])

    def outdate_all(self) -> None:
        """Have every tile made anew."""
        known = self._loader.known()
        base = self._base_keys()
        self.outdate([*dict.fromkeys([*known, *base])])

    @property
    def layer_data(self) -> list[OptimisticLevel] | NDArray[Any]:
        """What a napari layer gets: the levels or, where there is one only, its array."""
        return self.levels if len(self.levels) > 1 else self.base

    @property
    def idle(self) -> bool:
        """Whether nothing is being loaded: what is on screen is then exact."""
        return self._loader.idle

    @property
    def nbytes(self) -> int:
        """Bytes held by display tiles."""
        return self._loader.nbytes + int(self.base.nbytes)

    def close(self) -> None:
        """Stop loading."""
        self._loader.close()

    # -- inside ------------------------------------------------------------------------------

    def _blank(self, height: int, width: int) -> NDArray[Any]:
        shape = (height, width, self.channels) if self.channels else (height, width)
        return np.full(shape, self._fill, self.dtype)

    def _keys(self, level: int, y0: int, y1: int, x0: int, x1: int) -> list[Key]:
        t = self.tiles.tile
        rows = range(max(y0, 0) // t, (y1 - 1) // t + 1)
        cols = range(max(x0, 0) // t, (x1 - 1) // t + 1)
        return [(level, r, c) for r in rows for c in cols]

    def _ring(self, level: int, keys: list[Key]) -> list[Key]:
        """Return the tiles just outside a view, inside the level."""
        if not keys:
            return []
        height, width = self.tiles.shapes[level]
        t = self.tiles.tile
        rows = (min(k[1] for k in keys) - 1, max(k[1] for k in keys) + 1)
        cols = (min(k[2] for k in keys) - 1, max(k[2] for k in keys) + 1)
        inside = set(keys)
        return [
            (level, r, c)
            for r in range(max(rows[0], 0), min(rows[1], (height - 1) // t) + 1)
            for c in range(max(cols[0], 0), min(cols[1], (width - 1) // t) + 1)
            if (level, r, c) not in inside
        ]

    def _stand_in(self, key: Key) -> NDArray[Any]:
        """Return a tile enlarged from the finest coarser pixels at hand."""
        level, row, col = key
        t = self.tiles.tile
        height, width = self.tiles.shapes[level]
        y0, x0 = row * t, col * t
        y1, x1 = min(y0 + t, height), min(x0 + t, width)
        for coarser in range(level + 1, self._coarsest + 1):
            ch, cw = self.tiles.shapes[coarser]
            # Where the centres of this tile's pixels fall in the coarser level.
            ys = ((np.arange(y0, y1) + 0.5) * ch / height).astype(int).clip(0, ch - 1)
            xs = ((np.arange(x0, x1) + 0.5) * cw / width).astype(int).clip(0, cw - 1)
            found = self._known(coarser, ys[0], ys[-1] + 1, xs[0], xs[-1] + 1)
            if found is not None:
                # Columns first, then rows: nine times quicker than one index for both.
                return found.take(xs - xs[0], axis=1).take(ys - ys[0], axis=0)
        return self._blank(y1 - y0, x1 - x0)

    def _known(self, level: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any] | None:
        if level == self._coarsest:
            return self.base[y0:y1, x0:x1]
        out = self._blank(y1 - y0, x1 - x0)
        for key in self._keys(level, y0, y1, x0, x1):
            tile = self._loader.get(key)
            if tile is None:
                return None
            self._paste(out, tile, key, y0, x0)
        return out

    def _paste(self, out: NDArray[Any], tile: NDArray[Any], key: Key, y0: int, x0: int) -> None:
        """Copy the part of a tile that lies in ``out``, whose corner is (y0, x0) of the level."""
        t = self.tiles.tile
        top, left = key[1] * t - y0, key[2] * t - x0
        ty, tx = max(-top, 0), max(-left, 0)
        oy, ox = max(top, 0), max(left, 0)
        h = min(tile.shape[0] - ty, out.shape[0] - oy)
        w = min(tile.shape[1] - tx, out.shape[1] - ox)
        if h > 0 and w > 0:
            out[oy : oy + h, ox : ox + w] = tile[ty : ty + h, tx : tx + w]

    def _load_base(self) -> None:
        keys = self._base_keys()
        if self._dispatcher is None:
            for key in keys:
                self._into_base(key, self.tiles.read_tile(*key))
        else:
            self._loader.want(keys)

    def _base_keys(self) -> list[Key]:
        height, width = self.base.shape[:2]
        return self._keys(self._coarsest, 0, height, 0, width)

    def _into_base(self, key: Key, tile: NDArray[Any]) -> None:
        self._paste(self.base, tile, key, 0, 0)

    def _arrived(self, key: Key) -> None:
        if key[0] == self._coarsest:
            tile = self._loader.get(key)
            if tile is not None:
                self._into_base(key, tile)
        if self._dispatcher is None:
            return
        with self._lock:
            if self._announced:
                return
            self._announced = True
        self._dispatcher.later(REFRESH_SECONDS, self._announce)

    def _announce(self) -> None:
        with self._lock:
            self._announced = False
        self.improved.emit()
