"""A map of regions as tiles for display: its probabilities, and what would become areas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.session.regions import AreaSettings, ClassMasks, px_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_histosam.session.regions import RegionMap

    Box = tuple[int, int, int, int]
    Key = tuple[int, int, int]

TILE = 512
# Px around a tile that are looked at to tell whether something is too small to become an area.
_AROUND = 64


class ProbabilityTiles:
    """How likely each px is of one class, 0 to 1; nothing outside of the region asked for.

    Parameters
    ----------
    found : RegionMap
    kind : int
        The class's number.
    """

    tile = TILE

    def __init__(self, found: RegionMap, kind: int) -> None:
        self._map, self._kind = found, kind
        self.shapes = found.shapes

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.float32]:
        """Return a tile as it is on disk now."""
        top, bottom, left, right = _box(self.shapes[level], row, col)
        likely = self._map.read(level, top, bottom, left, right)[self._kind]
        inside = ClassMasks(self._map, AreaSettings(), level).inside(top, bottom, left, right)
        return np.where(inside, likely, 0).astype(np.float32) / np.float32(255)


class AreaTiles:
    """Which px would become areas with some settings: 0 none, else the class's number and one.

    At coarse levels, smoothing and the least size are as good as the level shows them.

    Parameters
    ----------
    found : RegionMap
    settings : AreaSettings
    """

    tile = TILE

    def __init__(self, found: RegionMap, settings: AreaSettings) -> None:
        self._map = found
        self.settings = settings
        self.shapes = found.shapes

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """Return a tile."""
        settings = self.settings
        high, wide = self.shapes[level]
        top, bottom, left, right = _box((high, wide), row, col)
        px = px_size(self._map)
        least = settings.least_um2 / (px[0] * px[1] * 4**level)
        pad = min(_AROUND, int(np.ceil(np.sqrt(least))) + 1) if least > 1 else 0
        y0, y1 = max(top - pad, 0), min(bottom + pad, high)
        x0, x1 = max(left - pad, 0), min(right + pad, wide)
        masks, _ = ClassMasks(self._map, settings, level).read(y0, y1, x0, x1)
        out = np.zeros(masks.shape[1:], np.uint8)
        for kind, mask in enumerate(masks):
            out[_large(mask, least) if pad else mask] = kind + 1
        return out[top - y0 : bottom - y0, left - x0 : right - x0]


def touched(shapes: Iterable[tuple[int, int]], box: Box, reach: int = 0) -> list[Key]:
    """Return the tiles of all levels that meet a box of level 0, left, top, right, bottom.

    ``reach`` px more, of each level, are counted in on every side.
    """
    keys = []
    for level, (high, wide) in enumerate(shapes):
        left, top = ((edge >> level) - reach for edge in box[:2])
        right, bottom = (-(-edge >> level) + reach for edge in box[2:])
        rows = range(max(top, 0) // TILE, -(-min(bottom, high) // TILE))
        columns = range(max(left, 0) // TILE, -(-min(right, wide) // TILE))
        keys += [(level, row, column) for row in rows for column in columns]
    return keys


def _box(shape: tuple[int, int], row: int, col: int) -> tuple[int, int, int, int]:
    high, wide = shape
    top, left = row * TILE, col * TILE
    return top, min(top + TILE, high), left, min(left + TILE, wide)


def _large(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Drop what is too small; what the border cuts may be larger and stays."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=4
    )
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[edge] = True
    keep[0] = False
    return np.asarray(keep[labels])
