"""Fill polygons into pixels by the pixel-centre rule, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry


def fill(
    out: NDArray[Any], geometries: Sequence[BaseGeometry], values: Sequence[int] | Sequence[bool]
) -> NDArray[Any]:
    """Write each geometry's value into the pixels whose centre lies inside it.

    A centre that lies exactly on an edge belongs to the geometry on its right or below, so
    polygons that share an edge share no pixel and leave none out. Later geometries win.
    Points and lines cover no pixel.

    Parameters
    ----------
    out : (h, w) array
        Changed in place; C-contiguous.
    geometries : sequence of (Multi)Polygon
        Valid, in the array's px, corner based (pixel ``i`` covers ``i`` to ``i + 1``).
    values : sequence of int or bool
        One per geometry.

    Returns
    -------
    (h, w) array
        ``out``.

    Raises
    ------
    ValueError
        If ``out`` is not a C-contiguous image.
    """
    if out.ndim != 2 or not out.flags.c_contiguous:
        raise ValueError("the image to fill has two dimensions and is C-contiguous")
    h, w = out.shape
    owner, row, start, stop = spans(geometries, (h, w))
    pixels = out.reshape(-1)
    of = np.asarray(values, out.dtype)[owner] if len(owner) else np.empty(0, out.dtype)
    # One slice per span is faster than fancy indexing per pixel.
    for a, b, value in zip(
        (row * w + start).tolist(), (row * w + stop).tolist(), of.tolist(), strict=True
    ):
        pixels[a:b] = value
    return out


def spans(
    geometries: Sequence[BaseGeometry], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs of pixels that the geometries cover.

    Parameters
    ----------
    geometries : sequence of (Multi)Polygon
        As in `fill`.
    shape : (h, w)

    Returns
    -------
    owner, row, start, stop : (n,) int64 each
        Geometry ``owner`` covers the pixels ``start`` to ``stop - 1`` of ``row``; sorted.
    """
    h, w = shape
    parts, of_part = shapely.get_parts(np.asarray(geometries, object), return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    xy, of_point = shapely.get_coordinates(rings, return_index=True)
    same = of_point[1:] == of_point[:-1]
    head, tail = xy[:-1][same], xy[1:][same]
    owner = of_part[of_ring[of_point[:-1][same]]] if len(xy) else np.empty(0, np.int64)

    # Both neighbours of a shared edge must compute the same crossing: edges run downwards.
    flip = head[:, 1] > tail[:, 1]
    head, tail = np.where(flip[:, None], tail, head), np.where(flip[:, None], head, tail)
    first = np.ceil(np.clip(head[:, 1], -1, h + 1) - 0.5).clip(0, h).astype(np.int64)
    last = np.ceil(np.clip(tail[:, 1], -1, h + 1) - 0.5).clip(0, h).astype(np.int64)
    count = last - first
    hit = count > 0
    head, tail, first, count, owner = head[hit], tail[hit], first[hit], count[hit], owner[hit]

    slope = (tail[:, 0] - head[:, 0]) / (tail[:, 1] - head[:, 1])
    edge = np.repeat(np.arange(count.size), count)
    row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    x = head[edge, 0] + (row + 0.5 - head[edge, 1]) * slope[edge]
    col = np.ceil(np.clip(x, -1, w + 1) - 0.5).clip(0, w).astype(np.int64)

    # Sorted, the crossings of a row pair up: outside to inside, inside to outside.
    key = np.sort((owner[edge] * h + row) * (w + 1) + col)
    line, col = np.divmod(key, w + 1)
    start, stop, line = col[0::2], col[1::2], line[0::2]
    full = stop > start
    owner, row = np.divmod(line[full], max(h, 1))
    return owner, row, start[full], stop[full]
