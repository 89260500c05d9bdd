"""Paints geometries into one small label image: fill, outline, and dots for what is tiny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import shapely

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SHIFT = 4  # cv2 takes coordinates in 1/16 px
_POINT, _LINES, _POLYGON, _FIRST_MULTI = 0, (1, 2), 3, 4


@dataclass(frozen=True)
class Frame:
    """Where a canvas lies: its corner in px of its level, and level-0 px per px along x and y."""

    left: float
    top: float
    scale: tuple[float, float]

    def to_canvas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map level-0 px (n, 2) to canvas px, corner based."""
        return points / self.scale - (self.left, self.top)


def paint(
    canvas: NDArray[np.uint8],
    geometries: NDArray[np.object_],
    fills: Sequence[int],
    outlines: Sequence[int],
    frame: Frame,
    mark: float,
) -> None:
    """Paint geometries in order, each with its fill and a 1-px outline.

    Holes stay open (even-odd), also where something was painted before; the parts of a multi
    geometry belong together.

    Parameters
    ----------
    canvas : (h, w) uint8 array
        Painted in place.
    geometries : (n,) object array
        Level-0 px; None is skipped.
    fills, outlines : sequences of n ints
    frame : Frame
    mark : float
        Side of the square that stands for a point, canvas px.
    """
    parts, owners = _parts(geometries)
    kinds = shapely.get_type_id(parts)
    polygons = np.flatnonzero(kinds == _POLYGON)
    rings, of_polygon = shapely.get_rings(parts[polygons], return_index=True)
    closed = _curves(rings, owners[polygons][of_polygon], len(geometries), frame)
    lines = np.flatnonzero(np.isin(kinds, _LINES))
    opened = _curves(parts[lines], owners[lines], len(geometries), frame)
    for i, (fill, outline) in enumerate(zip(fills, outlines, strict=True)):
        if area := closed.of(i):
            cv2.fillPoly(canvas, area, fill, cv2.LINE_8, _SHIFT)
            cv2.polylines(canvas, area, True, outline, 1, cv2.LINE_8, _SHIFT)
        if path := opened.of(i):
            cv2.polylines(canvas, path, False, outline, 1, cv2.LINE_8, _SHIFT)
    points = np.flatnonzero(kinds == _POINT)
    at = shapely.get_coordinates(parts[points])
    values = np.asarray(outlines, np.uint8)[owners[points]]
    blocks(canvas, frame.to_canvas(at), np.full(at.shape, mark), values)


def blocks(
    canvas: NDArray[np.uint8],
    centres: NDArray[np.float64],
    sizes: NDArray[np.float64],
    values: NDArray[np.uint8],
) -> None:
    """Paint upright rectangles of a few px each, at least one px, later ones over earlier ones.

    Parameters
    ----------
    canvas : (h, w) uint8 array
    centres : (n, 2) float array
        x, y in canvas px, corner based.
    sizes : (n, 2) float array
        Width and height in canvas px.
    values : (n,) uint8 array
    """
    if not len(centres):
        return
    height, width = canvas.shape
    spans = np.maximum(np.rint(sizes), 1).astype(np.int64)
    starts = np.floor(centres - (spans - 1) / 2).astype(np.int64)
    most_x, most_y = spans.max(axis=0)
    for dy in range(most_y):
        for dx in range(most_x):
            x, y = starts[:, 0] + dx, starts[:, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            inside &= (dx < spans[:, 0]) & (dy < spans[:, 1])
            canvas[y[inside], x[inside]] = values[inside]


class _Curves:
    """Point lists (cv2's fixed point numbers), grouped by the object they belong to."""

    def __init__(
        self, points: NDArray[np.int32], ends: NDArray[np.int64], first: NDArray[np.int64]
    ) -> None:
        self._points = points
        self._ends = [0, *ends.tolist()]
        self._first = first.tolist()

    def of(self, owner: int) -> list[NDArray[np.int32]]:
        at = range(self._first[owner], self._first[owner + 1])
        return [self._points[self._ends[i] : self._ends[i + 1]] for i in at]


def _curves(lines: NDArray[np.object_], owners: NDArray[np.int64], n: int, frame: Frame) -> _Curves:
    """Turn rings or lines into cv2's numbers: px centres at whole numbers, 1/16 px steps."""
    points = frame.to_canvas(shapely.get_coordinates(lines)) - 0.5
    fixed = np.rint(points * (1 << _SHIFT)).clip(-(2**30), 2**30).astype(np.int32)
    ends = np.cumsum(shapely.get_num_coordinates(lines))
    return _Curves(fixed, ends, np.searchsorted(owners, np.arange(n + 1)))


def _parts(geometries: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Split multi geometries, nested ones too; return the parts and whose they are, in order."""
    there = np.flatnonzero(shapely.is_geometry(geometries))
    parts, owners = geometries[there], there
    while (shapely.get_type_id(parts) >= _FIRST_MULTI).any():
        parts, index = shapely.get_parts(parts, return_index=True)
        owners = owners[index]
    return parts, owners
