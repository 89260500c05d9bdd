"""Round geometries to QuPath's two decimals without breaking or visibly changing any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.polygons import clean

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECIMALS = 2
"""QuPath writes two decimals and reads to a hundredth of a pixel."""

FINE_DECIMALS = 6
"""For objects so small that a hundredth of a pixel would change them."""

LEAST_IOU = 0.999
"""What an object and its written form share at least."""


def rounded(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """Round coordinates to two decimals, more where two would change an object.

    Parameters
    ----------
    geometries : (n,) array of shapely geometries
        Valid.

    Returns
    -------
    (n,) array of shapely geometries
        Valid, same kinds, each with IoU > 0.999 to its source.
    """
    out = shapely.transform(geometries, lambda xy: np.round(xy, DECIMALS))
    for i in np.flatnonzero(_broken(out)):
        # Snapping may merge vertices into a crossing; GEOS can snap and stay valid.
        out[i] = clean(shapely.set_precision(geometries[i], 10.0**-DECIMALS))
    changed = ~same_shape(geometries, out, least_iou=(1 + LEAST_IOU) / 2)
    if changed.any():
        fine = shapely.transform(geometries[changed], lambda xy: np.round(xy, FINE_DECIMALS))
        lost = _broken(fine)
        fine[lost] = geometries[changed][lost]
        out[changed] = fine
    return out


def same_shape(
    a: NDArray[np.object_], b: NDArray[np.object_], least_iou: float = LEAST_IOU
) -> NDArray[np.bool_]:
    """Tell for each pair of geometries whether they are the same but for rounding.

    Polygons are when their IoU is above ``least_iou``; points and lines are when they lie
    within a hundredth of a pixel of each other. Polygons with equally many vertices are first
    judged by a bound (the area that the outline sweeps when each vertex moves straight from one
    to the other contains every point where they differ), which spares most overlays.

    Parameters
    ----------
    a, b : (n,) array of shapely geometries or None
        Polygons valid.
    least_iou : float

    Returns
    -------
    (n,) bool
    """
    n = len(a)
    result = np.zeros(n, np.bool_)
    kind_a, kind_b = shapely.get_type_id(a), shapely.get_type_id(b)
    area = np.isin(kind_a, (3, 6)) & np.isin(kind_b, (3, 6))
    other = ~area & (kind_a == kind_b) & (kind_a >= 0)
    with np.errstate(invalid="ignore"):
        result[other] = shapely.hausdorff_distance(a[other], b[other]) <= 10.0**-DECIMALS

    alike = area & (shapely.get_num_coordinates(a) == shapely.get_num_coordinates(b))
    result[alike] = _swept_share(a[alike], b[alike]) < 1 - least_iou
    rest = area & ~result
    if rest.any():
        common = shapely.area(shapely.intersection(a[rest], b[rest]))
        whole = shapely.area(a[rest]) + shapely.area(b[rest]) - common
        result[rest] = common > least_iou * whole
    return result


def _swept_share(a: NDArray[np.object_], b: NDArray[np.object_]) -> NDArray[np.float64]:
    """Bound from above the share of area in which polygons with paired vertices differ."""
    if not len(a):
        return np.empty(0)
    xy, owner = shapely.get_coordinates(a, return_index=True)
    move = shapely.get_coordinates(b) - xy
    same = owner[1:] == owner[:-1]  # counts jumps between rings too: still a bound
    edge, ends = np.diff(xy, axis=0), np.stack([move[:-1], move[1:]])
    across = np.abs(ends[..., 0] * edge[:, 1] - ends[..., 1] * edge[:, 0]).sum(0) / 2
    # The edge itself turns while it moves; that is of second order.
    turn = 2 * (ends**2).sum(-1).max(0)
    swept = np.bincount(owner[1:], np.where(same, across + turn, 0), minlength=len(a))
    with np.errstate(divide="ignore"):
        return np.asarray(swept / shapely.area(a))


def _broken(geometries: NDArray[np.object_]) -> NDArray[np.bool_]:
    return ~shapely.is_valid(geometries) | shapely.is_empty(geometries)
