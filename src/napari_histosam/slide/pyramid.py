"""The pyramid that a viewer shows: real levels, virtual x2 levels between and above them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.resample import block_mean
from napari_histosam.slide.sketch import sketch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.slide.cache import TileCache
    from napari_histosam.slide.slide import Slide
    from napari_histosam.slide.source import RGB

COARSEST_PX = 1024
_GAP = 2.8  # a jump between real levels of this or more gets a virtual level in between
_SKETCH_READS = 256
_KEPT_BYTES = 192 * 2**20


@dataclass(frozen=True)
class PyramidLevel:
    """One level of the display pyramid.

    Parameters
    ----------
    shape : tuple of int
        Height and width in px.
    scale : tuple of float
        Level-0 px per px along x and y.
    real : int or None
        The slide's own level; None for a virtual one, made of the level before it.
    depth : int
        Halvings since the nearest finer real level; 0 for a real one.
    """

    shape: tuple[int, int]
    scale: tuple[float, float]
    real: int | None
    depth: int


class DisplayPyramid:
    """Tiles of a slide at every zoom.

    Virtual levels are 2 x 2 box means of the level before (rounded half up; an odd last row or
    column counts alone), down to a longest side of at most 1024 px.

    What one tile may cost is bounded. Up to ``exact_depth`` halvings above a real level (3, so at
    most 64 tiles of it; more only for slides beyond about 12 gigapixel) a tile is computed exactly,
    through the cache. Deeper ones, which exist only for huge slides without own coarse levels, are
    drawn from at most 256 sample reads until `build` has gone through the slide once; `build` keeps
    what it makes (at most 192 MB).

    Parameters
    ----------
    slide : Slide
    tile : int
        Side of a tile in px.
    cache : TileCache
    """

    def __init__(self, slide: Slide, tile: int, cache: TileCache) -> None:
        self.tile = tile
        self._slide, self._cache = slide, cache
        self._token = object()
        self.levels = _plan(slide)
        self.exact_depth = _exact_depth(self.levels)
        self._kept: dict[tuple[int, int, int], NDArray[np.uint8]] = {}

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of every level, finest first."""
        return [level.shape for level in self.levels]

    @property
    def scales(self) -> list[tuple[float, float]]:
        """Level-0 px per px along x and y of every level."""
        return [level.scale for level in self.levels]

    def grid(self, level: int) -> tuple[int, int]:
        """Return the number of tile rows and columns of a level."""
        h, w = self.levels[level].shape
        return (-(-h // self.tile), -(-w // self.tile))

    def read_tile(self, level: int, row: int, col: int) -> RGB:
        """Return a tile, (h, w, 3) uint8, read-only; tiles at the right and bottom are clipped.

        Raises
        ------
        InputError
            Where there is no such tile, or the slide cannot be read.
        """
        self._check(level, row, col)
        if self.levels[level].depth <= self.exact_depth:
            return self._exact(level, row, col)
        kept = self._kept.get((level, row, col))
        if kept is not None:
            return kept
        key = (self._token, "sketch", level, row, col)
        return self._cache.get_or_make(key, lambda: self._sketch(level, row, col))

    def cached_tile(self, level: int, row: int, col: int) -> RGB | None:
        """Return a tile if it is at hand without reading, else None."""
        kept = self._kept.get((level, row, col))
        return kept if kept is not None else self._cache.get((self._token, level, row, col))

    def is_exact(self, level: int, row: int, col: int) -> bool:
        """Tell whether `read_tile` gives the box mean itself, not a sketch of it."""
        return self.levels[level].depth <= self.exact_depth or (level, row, col) in self._kept

    def build(
        self,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[float], None] = lambda _: None,
    ) -> bool:
        """Make all tiles that are only sketched so far exact, in one pass over the slide.

        Every real tile is read once and memory stays within the cache. Meant for a worker thread.

        Parameters
        ----------
        stop : callable
            Asked before each piece of work; True ends the pass early (what is made is kept).
        progress : callable
            Called with the share done, 0 to 1.

        Returns
        -------
        bool
            True if nothing is sketched any more.
        """
        deep = [i for i, lv in enumerate(self.levels) if lv.depth == self.exact_depth + 1]
        whole = [self._coarsest_of_run(i) for i in deep]
        total = sum(int(np.prod(self.grid(i))) for i in deep)
        self._done = 0

        def make(level: int, row: int, col: int) -> NDArray[np.uint8] | None:
            if self.levels[level].depth <= self.exact_depth:
                return None if stop() else self._exact(level, row, col)
            kept = self._kept.get((level, row, col))
            if kept is None:
                kept = self._merge(level, row, col, make)
                if kept is None:
                    return None
                kept.flags.writeable = False
                self._kept[level, row, col] = kept
            if level in deep:
                self._done += 1
                progress(self._done / total)
            return kept

        for level in whole:
            rows, cols = self.grid(level)
            for row in range(rows):
                for col in range(cols):
                    if make(level, row, col) is None:
                        return False
        return True

    def forget(self) -> None:
        """Drop this pyramid's tiles from the cache."""
        self._cache.drop(self._token)
        self._kept.clear()

    def _coarsest_of_run(self, level: int) -> int:
        while level + 1 < len(self.levels) and self.levels[level + 1].depth > 0:
            level += 1
        return level

    def _exact(self, level: int, row: int, col: int) -> RGB:
        def make() -> NDArray[np.uint8]:
            real = self.levels[level].real
            if real is not None:
                w, h = self._size(level, row, col)
                return self._slide.read_level(real, col * self.tile, row * self.tile, w, h)
            made = self._merge(level, row, col, self._exact)
            assert made is not None
            return made

        return self._cache.get_or_make((self._token, level, row, col), make)

    def _merge(
        self,
        level: int,
        row: int,
        col: int,
        child: Callable[[int, int, int], NDArray[np.uint8] | None],
    ) -> NDArray[np.uint8] | None:
        """Halve the up to four tiles of the finer level that lie under a tile."""
        w, h = self._size(level, row, col)
        fine = np.empty((2 * h, 2 * w, 3), np.uint8)
        rows, cols = self.grid(level - 1)
        got_h = got_w = 0
        for r in range(2 * row, min(2 * row + 2, rows)):
            for c in range(2 * col, min(2 * col + 2, cols)):
                part = child(level - 1, r, c)
                if part is None:
                    return None
                y, x = (r - 2 * row) * self.tile, (c - 2 * col) * self.tile
                fine[y : y + part.shape[0], x : x + part.shape[1]] = part
                got_h, got_w = y + part.shape[0], x + part.shape[1]
        if got_h < 2 * h:
            fine[got_h] = fine[got_h - 1]
        if got_w < 2 * w:
            fine[:, got_w] = fine[:, got_w - 1]
        return block_mean(fine, 2, 2)

    def _sketch(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        base = level
        while self.levels[base].real is None:
            base -= 1
        factor = 2 ** self.levels[level].depth
        w, h = self._size(level, row, col)
        left, top = col * self.tile * factor, row * self.tile * factor
        fine_h, fine_w = self.levels[base].shape
        box = (left, top, min(left + w * factor, fine_w), min(top + h * factor, fine_h))
        real = self.levels[base].real
        assert real is not None
        return sketch(self._slide, real, box, (w, h), _SKETCH_READS)

    def _size(self, level: int, row: int, col: int) -> tuple[int, int]:
        h, w = self.levels[level].shape
        return (min(self.tile, w - col * self.tile), min(self.tile, h - row * self.tile))

    def _check(self, level: int, row: int, col: int) -> None:
        if 0 <= level < len(self.levels):
            rows, cols = self.grid(level)
            if 0 <= row < rows and 0 <= col < cols:
                return
        raise InputError(f"There is no tile at level {level}, row {row}, column {col}.")


def _plan(slide: Slide) -> list[PyramidLevel]:
    real = [PyramidLevel(lv.shape, lv.scale, i, 0) for i, lv in enumerate(slide.levels)]
    plan = [real[0]]
    for level in real[1:]:
        while min(level.scale) >= _GAP * max(plan[-1].scale):
            plan.append(_halved(plan[-1]))
        # Some scanners store two levels of nearly one size; a viewer has no use for the second.
        if min(level.scale) > 1.2 * max(plan[-1].scale):
            plan.append(level)
    while max(plan[-1].shape) > COARSEST_PX:
        plan.append(_halved(plan[-1]))
    return plan


def _halved(level: PyramidLevel) -> PyramidLevel:
    h, w = level.shape
    shape = (-(-h // 2), -(-w // 2))
    scale = (2 * level.scale[0], 2 * level.scale[1])
    return PyramidLevel(shape, scale, None, level.depth + 1)


def _exact_depth(levels: list[PyramidLevel]) -> int:
    """Return the least depth of 3 or more above which all tiles fit into the bytes to keep."""
    depth = 3
    while sum(3 * lv.shape[0] * lv.shape[1] for lv in levels if lv.depth > depth) > _KEPT_BYTES:
        depth += 1
    return depth
