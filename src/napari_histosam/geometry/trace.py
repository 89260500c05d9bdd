"""Trace the pixel edges of a mask into rings that always make valid polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# A corner of the pixel grid is named by the four pixels around it:
# 1 upper left, 2 upper right, 4 lower left, 8 lower right.
_SADDLE_FALLING = 9  # upper left and lower right are set
_SADDLE_RISING = 6  # upper right and lower left are set
_TURNS = np.zeros(16, bool)
_TURNS[[1, 2, 4, 8, 7, 11, 13, 14, _SADDLE_FALLING, _SADDLE_RISING]] = True


@dataclass(frozen=True)
class Rings:
    """The outlines of a mask as rings of grid corners.

    Parameters
    ----------
    corners : (n, 2) int64
        x, y of the corners where an outline turns, ring after ring, not closed, window px.
    starts : (r + 1,) int64
        Ring ``i`` is ``corners[starts[i]:starts[i + 1]]``.
    part : (r,) int64
        The 4-connected part that a ring belongs to.
    hole : (r,) bool
        True for holes. Shells have a positive shoelace area, holes a negative one.
    """

    corners: NDArray[np.int64]
    starts: NDArray[np.int64]
    part: NDArray[np.int64]
    hole: NDArray[np.bool_]


def trace(mask: ArrayLike) -> Rings | None:
    """Trace all outlines of a mask along its pixel edges.

    Every ring is simple, parts are 4-connected and meet in corners only, and every part has
    exactly one shell, so the polygons built from the rings are valid without any repair.
    Where two diagonal pixels meet, the outline keeps to the set pixels if they belong to
    different parts (the parts touch in a point) and to the unset pixels if they belong to the
    same part (a hole touches its shell or another hole in a point).

    Parameters
    ----------
    mask : (h, w) bool

    Returns
    -------
    Rings or None
        None if no pixel is set.

    Raises
    ------
    ValueError
        If the mask is not two-dimensional.
    """
    pixels = np.asarray(mask, bool)
    if pixels.ndim != 2:
        raise ValueError(f"a mask has two dimensions, this array has {pixels.ndim}")
    rows = np.flatnonzero(pixels.any(1))
    if not rows.size:
        return None
    cols = np.flatnonzero(pixels.any(0))
    top, left = int(rows[0]), int(cols[0])
    padded = np.pad(pixels[top : rows[-1] + 1, left : cols[-1] + 1].view(np.uint8), 1)

    code = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    flat = np.flatnonzero(_TURNS[code])
    kind = code.ravel()[flat]
    y, x = np.divmod(flat, code.shape[1])
    labels: NDArray[np.int32] | None = None
    saddle = (kind == _SADDLE_FALLING) | (kind == _SADDLE_RISING)
    low = np.zeros(kind.size, np.uint8)
    if saddle.any():
        labels = _label(padded)
        falling = kind == _SADDLE_FALLING
        one = labels[y, np.where(falling, x, x + 1)]
        other = labels[y + 1, np.where(falling, x + 1, x)]
        # A saddle is passed twice: once through its left edge and once through its right edge.
        # `low` tells whether the left passage leaves downwards.
        low = (falling == (one == other)).astype(np.uint8)
        again = np.repeat(np.arange(kind.size), 1 + saddle)
        second = np.append(False, again[1:] == again[:-1])
        x, y, kind = x[again], y[again], kind[again]
        low = np.where(saddle[again], low[again] ^ second, 0).astype(np.uint8)
    order, ring_starts, first = _chain(x, y, kind, low)
    corners = np.column_stack([x[order], y[order]]).astype(np.int64)

    below = (kind[first] & 8) > 0
    if labels is None and len(ring_starts) > 2:
        labels = _label(padded)
    if labels is None:
        part = np.ones(len(first), np.int64)
    else:
        part = labels[y[first] + below, x[first] + 1].astype(np.int64)
    hole = _double_areas(corners, ring_starts) < 0
    return Rings(corners + np.array([left, top]), ring_starts, part, hole)


def _label(padded: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label the 4-connected parts."""
    import cv2

    return np.asarray(cv2.connectedComponents(padded, connectivity=4, ltype=cv2.CV_32S)[1])


def _chain(
    x: NDArray[np.intp], y: NDArray[np.intp], kind: NDArray[np.integer], low: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp]]:
    """Chain the turns, given in raster order, into rings.

    Neighbours in a row pair up to horizontal edges, neighbours in a column to vertical ones.
    Returns the turns in ring order, the rings' starts in it, and per ring the left end of one
    horizontal edge.
    """
    n = x.size
    down = np.argsort((x * (int(y.max()) + 1) + y) * 2 + low, kind="stable")
    across = np.empty(n, np.intp)
    across[down[0::2]] = down[1::2]
    across[down[1::2]] = down[0::2]
    left_ends = np.arange(0, n, 2)
    # With set pixels below, an edge runs to the right, so that shells have positive area.
    to_right = (kind[left_ends] & 8) > 0
    begin = np.where(to_right, left_ends, left_ends + 1)
    end = np.where(to_right, left_ends + 1, left_ends)
    following = (across[end] // 2).tolist()

    seen = bytearray(len(following))
    edges: list[int] = []
    starts = [0]
    for edge in range(len(following)):
        if seen[edge]:
            continue
        at = edge
        while not seen[at]:
            seen[at] = 1
            edges.append(at)
            at = following[at]
        starts.append(len(edges))
    ring = np.asarray(edges, np.intp)
    order = np.column_stack([begin[ring], end[ring]]).ravel()
    ring_starts = np.asarray(starts, np.int64)
    return order, ring_starts * 2, left_ends[ring[ring_starts[:-1]]]


def _double_areas(corners: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return twice the signed area of every ring (shoelace formula)."""
    following = next_in_ring(starts)
    x, y = corners[:, 0], corners[:, 1]
    return np.add.reduceat(x * y[following] - x[following] * y, starts[:-1])


def next_in_ring(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for every corner the index of the next one around its ring."""
    following = np.arange(1, int(starts[-1]) + 1)
    following[starts[1:] - 1] = starts[:-1]
    return following
