"""The way between masks of a window and polygons in level-0 px, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from napari_histosam.geometry.polygons import clean
from napari_histosam.geometry.scan import fill
from napari_histosam.geometry.trace import Rings, next_in_ring, trace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window

EXACT_TOLERANCE = 0.35
"""Below sqrt(2) / 4 px, the least distance of a pixel centre from the unsimplified outline."""

_TINY = 16
"""Masks of fewer pixels keep their pixel edges: cut corners would be a large share of them."""

_MOST_RINGS = 1500
"""A part with more holes is noise; simplifying it takes seconds and serves nobody."""


def mask_to_polygons(
    mask: ArrayLike, window: Window | None = None
) -> Polygon | MultiPolygon | None:
    """Trace a mask exactly along its pixel edges.

    The area equals the number of pixels (times the pixel's size); holes and parts are kept;
    pixels that meet in a corner only become parts that touch in a point. `polygons_to_mask`
    is the exact inverse.

    Parameters
    ----------
    mask : (h, w) bool
    window : Window, optional
        Maps the mask's px to level-0 px; its size is (w, h). Without one the result stays in
        the mask's px.

    Returns
    -------
    Polygon, MultiPolygon or None
        Valid, level-0 px, corner based; None if the mask is empty.

    Raises
    ------
    ValueError
        If the mask and the window differ in size.
    """
    rings = _traced(mask, window)
    if rings is None:
        return None
    index = np.repeat(np.arange(len(rings.part)), np.diff(rings.starts))
    return _build(rings.corners.astype(np.float64), index, rings, window)


def mask_to_outline(
    mask: ArrayLike, window: Window | None = None, tolerance_px: float = EXACT_TOLERANCE
) -> Polygon | MultiPolygon | None:
    """Trace a mask into an outline without stair-steps, fit to show, to keep and to export.

    The outline runs through the middles of the pixel edges (marching squares at 0.5) and is
    then simplified (Douglas-Peucker, topology kept) by at most ``tolerance_px``. With the
    default tolerance no pixel centre can change sides, so `polygons_to_mask` still gives back
    the very mask, with about half the vertices of the exact trace (a third at 0.5). That is
    why it is the form to accept objects in: it looks drawn, and editing it again on the same
    grid does not make it drift. With a larger tolerance the IoU with the mask stays above 0.98; the
    tolerance is lowered where it would not. Masks of fewer than 16 pixels, and noise with more
    than 1500 holes in one part, keep their pixel edges.

    Parameters
    ----------
    mask : (h, w) bool
    window : Window, optional
        As in `mask_to_polygons`.
    tolerance_px : float
        In px of the mask, not of level 0.

    Returns
    -------
    Polygon, MultiPolygon or None
        Valid, level-0 px, corner based; None if the mask is empty.

    Raises
    ------
    ValueError
        If the mask and the window differ in size.
    """
    pixels = np.asarray(mask, bool)
    rings = _traced(pixels, window)
    if rings is None:
        return None
    if np.count_nonzero(pixels) < _TINY or np.bincount(rings.part).max() > _MOST_RINGS:
        return mask_to_polygons(pixels, window)
    points, index = _edge_middles(rings)
    fine = _build(points, index, rings, None)
    tolerance = max(float(tolerance_px), 0.0)
    while tolerance > 0.05:
        # Outlines of different parts are further apart than the default tolerance can bring
        # together, so each part is simplified by itself, which is much faster.
        parts = shapely.simplify(shapely.get_parts(fine), tolerance, preserve_topology=True)
        outline = parts[0] if len(parts) == 1 else MultiPolygon(list(parts))
        near = tolerance <= EXACT_TOLERANCE or _iou(outline, pixels) > 0.98
        if near and outline.is_valid and not outline.is_empty:
            return _to_level0(outline, window)
        tolerance = EXACT_TOLERANCE if tolerance > 2 * EXACT_TOLERANCE else tolerance / 2
    return _to_level0(fine, window)


def edges_to_outline(polygon: Polygon, pixels: int) -> Polygon:
    """Take the stair-steps out of a polygon that follows pixel edges, as `mask_to_outline` does.

    Parameters
    ----------
    polygon : Polygon
        One part of a mask, in the mask's px; corners on straight runs do no harm.
    pixels : int
        How many the part has.

    Returns
    -------
    Polygon
        Valid; `polygons_to_mask` gives back the part's very pixels.
    """
    rings = _rings_of(polygon)
    if pixels < _TINY or len(rings.part) > _MOST_RINGS:
        index = np.repeat(np.arange(len(rings.part)), np.diff(rings.starts))
        return _build(rings.corners.astype(np.float64), index, rings, None)
    points, index = _edge_middles(rings)
    fine = _build(points, index, rings, None)
    simple = shapely.simplify(fine, EXACT_TOLERANCE, preserve_topology=True)
    outline = _with_first_points(simple, fine)
    return outline if outline.is_valid and not outline.is_empty else fine


def _with_first_points(simple: Polygon, fine: Polygon) -> Polygon:
    """Put back the point where a ring begins, should simplifying have dropped it.

    It is dropped last, by its distance from the line between neighbours that are themselves left
    over, so that the tolerance does not hold there.
    """
    rings = []
    for kept, whole in zip(shapely.get_rings(simple), shapely.get_rings(fine), strict=True):
        points, first = shapely.get_coordinates(kept), shapely.get_coordinates(whole)[:1]
        if not (points == first).all(1).any():
            points = np.concatenate([first, points[:-1], first])
        rings.append(points)
    return Polygon(rings[0], rings[1:])


def polygons_to_mask(geometry: BaseGeometry | None, window: Window) -> NDArray[np.bool_]:
    """Fill a geometry into a window's mask by the pixel-centre rule.

    Parameters
    ----------
    geometry : (Multi)Polygon or None
        Level-0 px. Invalid geometry is made valid first; points and lines cover nothing.
    window : Window

    Returns
    -------
    (h, w) bool
        True where the pixel's centre lies inside (holes are outside).
    """
    out = np.zeros((window.size[1], window.size[0]), np.bool_)
    sound = clean(geometry)
    if sound is None:
        return out
    local = shapely.transform(sound, window.from_level0)
    return fill(out, [local], [True])


def _traced(mask: ArrayLike, window: Window | None) -> Rings | None:
    pixels = np.asarray(mask, bool)
    if window is not None and pixels.shape != (window.size[1], window.size[0]):
        raise ValueError(f"the mask is {pixels.shape}, the window (w, h) is {window.size}")
    return trace(pixels)


def _rings_of(polygon: Polygon) -> Rings:
    """Return the rings of a polygon along pixel edges, only the corners where they turn."""
    found = shapely.get_rings(shapely.orient_polygons(polygon))
    xy, ring = shapely.get_coordinates(found, return_index=True)
    corners = np.rint(xy).astype(np.int64)
    last = np.append(ring[1:] != ring[:-1], True)  # the first corner of each ring, once more
    corners, ring = corners[~last], ring[~last]
    starts = np.searchsorted(ring, np.arange(len(found) + 1))
    after = next_in_ring(starts)
    before = np.empty_like(after)
    before[after] = np.arange(len(after))
    (ax, ay), (bx, by) = (corners - corners[before]).T, (corners[after] - corners).T
    turns = ax * by != ay * bx
    corners, ring = corners[turns], ring[turns]
    starts = np.searchsorted(ring, np.arange(len(found) + 1))
    # Each ring begins at its first corner in raster order, for what is simplified depends on that.
    first = np.lexsort((corners[:, 0], corners[:, 1], ring))[starts[:-1]]
    place = np.arange(len(ring)) - starts[ring] + (first - starts[:-1])[ring]
    corners = corners[starts[ring] + place % np.diff(starts)[ring]]
    hole = np.arange(len(found)) > 0
    return Rings(corners, starts, np.zeros(len(found), np.int64), hole)


def _edge_middles(rings: Rings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the middles of the unit pixel edges, only the outer two of a straight run."""
    corners, following = rings.corners, next_in_ring(rings.starts)
    step = corners[following] - corners
    length = np.abs(step).sum(1)
    half = step / (2 * length[:, None])
    pairs = np.stack([corners + half, corners[following] - half], 1)
    keep = np.stack([np.ones(len(length), bool), length > 1], 1).ravel()
    index = np.repeat(np.arange(len(rings.part)), 2 * np.diff(rings.starts))
    return pairs.reshape(-1, 2)[keep], index[keep]


def _build(
    points: NDArray[np.float64], index: NDArray[np.int64], rings: Rings, window: Window | None
) -> Polygon | MultiPolygon:
    """Make polygons of rings: per part one shell and its holes."""
    if window is not None:
        points = window.to_level0(points)
    order = np.lexsort((rings.hole, rings.part))
    _, part = np.unique(rings.part[order], return_inverse=True)
    outlines = shapely.linearrings(points, indices=index)
    polygons = shapely.polygons(outlines[order], indices=part)
    return polygons[0] if len(polygons) == 1 else MultiPolygon(list(polygons))


def _to_level0(geometry: Polygon | MultiPolygon, window: Window | None) -> Polygon | MultiPolygon:
    return geometry if window is None else shapely.transform(geometry, window.to_level0)


def _iou(outline: BaseGeometry, mask: NDArray[np.bool_]) -> float:
    if not outline.is_valid:
        return 0.0
    filled = fill(np.zeros(mask.shape, np.bool_), [outline], [True])
    return int(np.count_nonzero(filled & mask)) / max(int(np.count_nonzero(filled | mask)), 1)
