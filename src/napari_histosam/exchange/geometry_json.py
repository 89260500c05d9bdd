"""Build geometries from parsed GeoJSON, fast for many, and say which feature is at fault."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely import MultiPoint, MultiPolygon, Polygon

from napari_histosam.errors import InputError
from napari_histosam.geometry.polygons import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

KINDS = frozenset(
    {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"}
)
COLLECTION = "GeometryCollection"
_LARGEST = 1e9
_DEEPEST = 20


def geometries_from_json(
    values: Sequence[Any], numbers: Sequence[int]
) -> tuple[list[BaseGeometry | None], int]:
    """Build one geometry per GeoJSON geometry.

    Open rings are closed, invalid outlines made valid, third coordinates dropped. A collection
    of one kind becomes the multi-geometry of that kind.

    Parameters
    ----------
    values : sequence of parsed JSON
        Geometry objects, or None.
    numbers : sequence of int
        The number of the feature that each belongs to, for messages.

    Returns
    -------
    geometries : list of geometry or None
        In the values' frame; None where there is no geometry or no area in a polygon.
    repairs : int
        How many were not as they should be.

    Raises
    ------
    InputError
        With the feature's number: coordinates that are not finite numbers, unknown kinds,
        mixed collections.
    """
    built = _simple_polygons(values)
    if built is None:
        repairs = 0
        found: list[BaseGeometry | None] = []
        for value, number in zip(values, numbers, strict=True):
            geometry, repaired = _one(value, number)
            repairs += repaired
            found.append(geometry)
        return found, repairs
    geometries = built.tolist()
    broken = np.flatnonzero(~shapely.is_valid(built))
    for i in broken:
        geometries[i] = clean(geometries[i])
    return geometries, len(broken)


def shifted_json(value: Any, dx: float, dy: float) -> Any:
    """Return a GeoJSON geometry with its coordinates moved; anything else as it is."""
    if not (dx or dy) or not isinstance(value, dict) or value.get("type") not in KINDS:
        return value
    return {**value, "coordinates": _moved(value.get("coordinates"), dx, dy, 5)}


def _moved(value: Any, dx: float, dy: float, depth: int) -> Any:
    if not isinstance(value, list) or depth == 0:
        return value
    if len(value) > 1 and all(isinstance(v, int | float) for v in value):
        return [round(value[0] + dx, 6), round(value[1] + dy, 6), *value[2:]]
    return [_moved(v, dx, dy, depth - 1) for v in value]


def _simple_polygons(values: Sequence[Any]) -> np.ndarray | None:
    """Build all at once if all are plain, closed polygons; else None."""
    try:
        if any(value["type"] != "Polygon" for value in values):
            return None
        shapes = [value["coordinates"] for value in values]
        rings = list(chain.from_iterable(shapes))
        points = list(chain.from_iterable(rings))
        if not all(shapes) or not points or set(map(len, points)) != {2}:
            return None
        if not set(map(type, chain.from_iterable(points))) <= {int, float}:
            return None
        xy = np.fromiter(chain.from_iterable(points), np.float64, 2 * len(points)).reshape(-1, 2)
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    lengths = np.fromiter(map(len, rings), np.int64, len(rings))
    if lengths.min() < 4 or not (np.abs(xy) <= _LARGEST).all():
        return None
    ends = np.cumsum(lengths)
    if not np.array_equal(xy[ends - 1], xy[ends - lengths]):
        return None
    outlines = shapely.linearrings(xy, indices=np.repeat(np.arange(len(rings)), lengths))
    owner = np.repeat(np.arange(len(shapes)), [len(shape) for shape in shapes])
    return np.asarray(shapely.polygons(outlines, indices=owner))


def _one(value: Any, number: int, depth: int = 0) -> tuple[BaseGeometry | None, bool]:
    """Build one geometry; also tell whether it had to be repaired."""
    if value is None:
        return None, False
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == COLLECTION:
        return _collection(value, number, depth)
    if kind not in KINDS:
        raise InputError(f"Feature {number} has no geometry of a kind that GeoJSON knows; fix it.")
    coordinates = value.get("coordinates")
    if not isinstance(coordinates, list):
        raise InputError(f"Feature {number} has a geometry without coordinates; fix it.")
    if not coordinates:
        return None, False
    if kind == "Point":
        return shapely.Point(_points([coordinates], number)[0]), False
    if kind == "MultiPoint":
        return MultiPoint(_points(coordinates, number)), False
    if kind in ("LineString", "MultiLineString"):
        lines = [coordinates] if kind == "LineString" else coordinates
        return _lines([_points(line, number) for line in lines])
    shells = [coordinates] if kind == "Polygon" else coordinates
    repaired = False
    parts: list[Polygon] = []
    for shell in shells:
        if not isinstance(shell, list):
            raise InputError(f"Feature {number} has coordinates nested the wrong way; fix it.")
        rings = []
        for ring in shell:
            xy = _points(ring, number)
            if len(xy) and not np.array_equal(xy[0], xy[-1]):
                xy, repaired = np.vstack([xy, xy[:1]]), True
            rings.append(xy)
        if not rings or len(rings[0]) < 4:
            repaired = True
            continue
        holes = [ring for ring in rings[1:] if len(ring) >= 4]
        repaired |= len(holes) < len(rings) - 1
        parts.append(Polygon(rings[0], holes))
    if not parts:
        return None, repaired
    whole = parts[0] if len(parts) == 1 else MultiPolygon(parts)
    if whole.is_valid:
        return whole, repaired
    return clean(whole), True


def _collection(value: Any, number: int, depth: int) -> tuple[BaseGeometry | None, bool]:
    members = value.get("geometries")
    if not isinstance(members, list) or depth > _DEEPEST:
        raise InputError(f"Feature {number} has a broken GeometryCollection; split it.")
    built = [_one(member, number, depth + 1)[0] for member in members]
    parts = [p for one in built if one is not None for p in shapely.get_parts(one)]
    kinds = {part.geom_type for part in parts}
    if len(kinds) > 1:
        raise InputError(
            f"Feature {number} mixes {' and '.join(sorted(kinds))} in one GeometryCollection; "
            "split it into one feature each."
        )
    if not parts:
        return None, True
    if kinds == {"Polygon"}:
        return clean(shapely.union_all(parts)), True
    if kinds == {"Point"}:
        return MultiPoint(parts), True
    return shapely.MultiLineString(parts), True


def _lines(lines: list[np.ndarray]) -> tuple[BaseGeometry | None, bool]:
    whole = [line for line in lines if len(line) > 1]
    if not whole:
        return None, True
    if len(lines) == 1:
        return shapely.LineString(whole[0]), False
    return shapely.MultiLineString(whole), len(whole) < len(lines)


def _points(value: Any, number: int) -> np.ndarray:
    """Return (n, 2) float64 of a list of positions."""
    if not isinstance(value, list):
        raise InputError(f"Feature {number} has coordinates nested the wrong way; fix it.")
    for point in value:
        if not isinstance(point, list) or len(point) < 2:
            raise InputError(f"Feature {number} has coordinates nested the wrong way; fix it.")
        for v in point[:2]:
            if isinstance(v, bool) or not isinstance(v, int | float):
                raise InputError(f"Feature {number} has a coordinate that is no number; fix it.")
            if not abs(v) <= _LARGEST:
                raise InputError(
                    f"Feature {number} has a coordinate that is not a number or beyond any slide; "
                    "fix it."
                )
    return np.array([point[:2] for point in value], np.float64).reshape(-1, 2)
