"""Edit polygons: clean, join, cut, split, smooth, simplify, brush; the result is always valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike
    from shapely.geometry.base import BaseGeometry


def clean(geometry: BaseGeometry | None) -> Polygon | MultiPolygon | None:
    """Return the valid polygonal part of a geometry, shells with positive shoelace area.

    Parameters
    ----------
    geometry : shapely geometry or None
        Anything: bow-ties are untangled, points and lines dropped, collections flattened.

    Returns
    -------
    Polygon, MultiPolygon or None
        None if nothing with an area is left.

    Raises
    ------
    InputError
        If a coordinate is not a finite number.
    """
    if geometry is None or geometry.is_empty:
        return None
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InputError("A shape has a coordinate that is not a number; draw or export it again.")
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    return _polygonal(geometry)


def from_points(points: ArrayLike) -> Polygon | MultiPolygon | None:
    """Make a polygon of drawn vertices.

    Parameters
    ----------
    points : (n, 2) float
        x, y; rows with a value that is not finite are left out.

    Returns
    -------
    Polygon, MultiPolygon or None
        None for fewer than three different vertices or no area.
    """
    path = _finite(points)
    if len(np.unique(path, axis=0)) < 3:
        return None
    return clean(Polygon(path))


def union(geometries: Iterable[BaseGeometry | None]) -> Polygon | MultiPolygon | None:
    """Join any number of geometries into one."""
    sound = [part for part in map(clean, geometries) if part is not None]
    return _polygonal(shapely.union_all(sound)) if sound else None


def difference(
    geometry: BaseGeometry | None, cutter: BaseGeometry | None
) -> Polygon | MultiPolygon | None:
    """Take ``cutter`` away from ``geometry``."""
    sound, away = clean(geometry), clean(cutter)
    if sound is None or away is None:
        return sound
    return _polygonal(sound.difference(away))


def intersection(
    geometry: BaseGeometry | None, other: BaseGeometry | None
) -> Polygon | MultiPolygon | None:
    """Keep what both geometries cover."""
    sound, second = clean(geometry), clean(other)
    if sound is None or second is None:
        return None
    return _polygonal(sound.intersection(second))


def split(geometry: BaseGeometry | None, line: ArrayLike) -> list[Polygon | MultiPolygon]:
    """Split a geometry along a drawn line.

    Parameters
    ----------
    geometry : (Multi)Polygon or None
    line : (n, 2) float
        x, y; may cross itself and several parts.

    Returns
    -------
    list of Polygon or MultiPolygon
        The pieces, largest first; parts that the line leaves whole stay with the largest.
        One piece if the line does not cut through.
    """
    sound = clean(geometry)
    if sound is None:
        return []
    path = _finite(line)
    if len(path) < 2 or not np.ptp(path, axis=0).any():
        return [sound]
    cut = shapely.LineString(path)
    whole: list[Polygon] = []
    pieces: list[Polygon] = []
    for part in shapely.get_parts(sound):
        # Snap-rounding makes the crossings robust; a millionth of a pixel is nobody's outline.
        edges = shapely.union(part.boundary, cut, grid_size=1e-6)
        faces = shapely.get_parts(shapely.polygonize([edges]))
        inside = [f for f in faces if part.contains(f.representative_point())]
        if len(inside) < 2:
            whole.append(part)
            continue
        pieces += inside
    if not pieces:
        return [sound]
    pieces.sort(key=lambda piece: piece.area, reverse=True)
    largest = union([pieces[0], *whole]) or pieces[0]
    return [largest, *pieces[1:]]


def fill_holes(
    geometry: BaseGeometry | None, max_area: float | None = None
) -> Polygon | MultiPolygon | None:
    """Close holes of at most ``max_area`` (px²); all of them without a limit."""
    sound = clean(geometry)
    if sound is None:
        return None
    filled = [
        Polygon(
            part.exterior,
            []
            if max_area is None
            else [ring for ring in part.interiors if Polygon(ring).area > max_area],
        )
        for part in shapely.get_parts(sound)
    ]
    return union(filled)


def smooth(geometry: BaseGeometry | None, radius: float) -> Polygon | MultiPolygon | None:
    """Round bumps and dents smaller than ``radius`` px (opening, then closing, by a disc).

    What is thinner than the disc everywhere is returned as it was, never dropped.
    """
    sound = clean(geometry)
    if sound is None or radius <= 0:
        return sound
    rounded = sound.buffer(-radius).buffer(2 * radius).buffer(-radius)
    result = _polygonal(rounded.simplify(radius / 50))
    return sound if result is None else result


def simplify(geometry: BaseGeometry | None, tolerance: float) -> Polygon | MultiPolygon | None:
    """Drop vertices; no point of the outline moves by more than ``tolerance`` px, none is lost."""
    sound = clean(geometry)
    if sound is None or tolerance <= 0:
        return sound
    result = clean(sound.simplify(tolerance, preserve_topology=True))
    return sound if result is None else result


def area_um2(geometry: BaseGeometry, mpp: tuple[float, float]) -> float:
    """Return the area in µm² of a level-0 geometry; ``mpp`` is µm/px along x and y."""
    return float(geometry.area) * mpp[0] * mpp[1]


def perimeter_um(geometry: BaseGeometry, mpp: tuple[float, float]) -> float:
    """Return the length in µm of all outlines, those of holes included."""
    return float(shapely.transform(geometry, lambda xy: xy * np.asarray(mpp)).length)


def brush_stroke(path: ArrayLike, radius: float) -> Polygon | MultiPolygon | None:
    """Return the area that a round brush covers along a path.

    Parameters
    ----------
    path : (n, 2) float
        x, y of the brush's centre; one point gives a disc; rows that are not finite are left out.
    radius : float
        Px, same frame as the path.

    Returns
    -------
    Polygon, MultiPolygon or None
        None for an empty path or a radius that is not positive.
    """
    points = _finite(path)
    if not len(points) or not np.isfinite(radius) or radius <= 0:
        return None
    centre: BaseGeometry
    if len(points) > 1 and np.ptp(points, axis=0).any():
        # A mouse path is far denser than the brush is round.
        centre = shapely.LineString(points).simplify(radius / 50)
    else:
        centre = shapely.Point(points[0])
    return _polygonal(centre.buffer(radius, quad_segs=12))


def apply_brush(
    geometry: BaseGeometry | None, stroke: BaseGeometry | None, erase: bool = False
) -> Polygon | MultiPolygon | None:
    """Add a stroke to a geometry, or take it away; None if nothing is left."""
    return difference(geometry, stroke) if erase else union([geometry, stroke])


def _finite(points: ArrayLike) -> np.ndarray:
    path = np.asarray(points, np.float64).reshape(-1, 2)
    return path[np.isfinite(path).all(1)]


def _polygonal(geometry: BaseGeometry) -> Polygon | MultiPolygon | None:
    """Keep the polygons of a valid geometry, oriented; None if there are none."""
    parts = shapely.get_parts(geometry)
    while (shapely.get_type_id(parts) > 3).any():  # collections hold multi-parts and collections
        parts = shapely.get_parts(parts)
    found = [p for p in parts if isinstance(p, Polygon) and p.area > 0]
    if not found:
        return None
    result = shapely.orient_polygons(found[0] if len(found) == 1 else MultiPolygon(found))
    if result.is_valid:
        return result
    # Parts of a collection may overlap or share an edge.
    return _polygonal(shapely.union_all(found))
