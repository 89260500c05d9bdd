"""Write objects as GeoJSON features in QuPath's flavour."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange.colours import class_colour, known_colours
from napari_histosam.exchange.geometry_json import shifted_json
from napari_histosam.exchange.provenance import PREFIX, to_metadata
from napari_histosam.exchange.rounding import rounded
from napari_histosam.geometry.polygons import area_um2, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.exchange.options import ExportContext, ExportOptions
    from napari_histosam.exchange.origin import Origin
    from napari_histosam.records import SlideObject

SCORE = "HistoSAM score"
AREA = "HistoSAM area µm^2"

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Any text, lone surrogates included, is safe as ASCII escapes.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def is_uuid(text: Any) -> bool:
    """Tell whether QuPath would keep this text as an id."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


class FeatureWriter:
    """Turns batches of objects into the text of features.

    Parameters
    ----------
    context : ExportContext
    options : ExportOptions
    origin : Origin

    Attributes
    ----------
    notes : Counter
        What was changed on the way, by kind; see `warnings`.
    """

    def __init__(self, context: ExportContext, options: ExportOptions, origin: Origin):
        self._options = options
        self._mpp = context.mpp
        self._origin = origin
        self._origin_text = _encode(origin.to_dict())
        self._colours = known_colours(context.classes)
        self.notes: Counter[str] = Counter()

    def batch(
        self, objects: Sequence[SlideObject]
    ) -> tuple[list[str], list[SlideObject], NDArray[np.object_]]:
        """Write some objects.

        Parameters
        ----------
        objects : sequence of SlideObject

        Returns
        -------
        texts : list of str
            One feature each.
        kept : list of SlideObject
            Those that have an outline, with ids that QuPath keeps left as they are.
        geometries : (n,) array
            Their valid, oriented geometries, level-0 px of the full slide.

        Raises
        ------
        InputError
            If a coordinate is not a finite number.
        """
        kept: list[SlideObject] = []
        sources: list[BaseGeometry] = []
        for one in objects:
            geometry = self._sound(one)
            if geometry is None:
                self.notes["empty"] += 1
                continue
            kept.append(one)
            sources.append(geometry)
        geometries = np.empty(len(sources), object)
        geometries[:] = sources
        # RFC 7946: shells counter-clockwise in x, y; the area by coordinates is positive.
        geometries = shapely.orient_polygons(geometries)
        shift = np.asarray(self._origin.shift)
        moved = shapely.transform(geometries, lambda xy: xy + shift) if shift.any() else geometries
        shapes = shapely.to_geojson(rounded(moved))
        texts = [self._feature(*pair) for pair in zip(kept, sources, shapes, strict=True)]
        return texts, kept, geometries

    def written_id(self, one: SlideObject) -> str:
        """Return an object's id, or a UUID made from it where it is not one already."""
        return one.id if is_uuid(one.id) else str(uuid.uuid5(uuid.NAMESPACE_OID, one.id))

    def warnings(self) -> list[str]:
        """Return what the user should know, one sentence each."""
        sentences = {
            "empty": "{} left out: no outline",
            "repaired": "{} had a crossing outline and was untangled",
            "renamed": "{} had an id that QuPath does not keep and got a new one",
        }
        return [
            sentences[kind].format(f"{n} object{'s' * (n > 1)}") + "."
            for kind, n in self.notes.items()
        ]

    def _sound(self, one: SlideObject) -> BaseGeometry | None:
        geometry = one.geometry
        if geometry is None or geometry.is_empty:
            return None
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            raise InputError(
                f"Object {one.id} has a coordinate that is not a number; delete or redraw it."
            )
        if geometry.geom_type == "LinearRing":
            return shapely.LineString(geometry)
        if geometry.geom_type == "GeometryCollection" or not geometry.is_valid:
            # QuPath's reading and writing of GeometryCollection is broken.
            self.notes["repaired"] += 1
            return clean(geometry)
        return geometry

    def _feature(self, one: SlideObject, source: BaseGeometry, shape: str) -> str:
        extra = one.extra
        if not is_uuid(one.id):
            self.notes["renamed"] += 1
        members = dict(extra.get("geometryMembers") or {})
        if extra.get("plane"):
            members["plane"] = extra["plane"]
        if extra.get("isEllipse") and _is_ellipse(source):
            members["isEllipse"] = True
        if members:
            shape = f"{shape[:-1]},{_encode(members)[1:]}"
        head = f'{{"type":"Feature","id":"{self.written_id(one)}","geometry":{shape}'
        nucleus = extra.get("nucleusGeometry")
        if nucleus is not None:
            head += f',"nucleusGeometry":{_encode(shifted_json(nucleus, *self._origin.shift))}'
        rest = extra.get("members")
        if rest:
            head += f",{_encode(rest)[1:-1]}"
        return f'{head},"properties":{_encode(self._properties(one, source))}}}'

    def _properties(self, one: SlideObject, source: BaseGeometry) -> dict[str, Any]:
        options = self._options
        out: dict[str, Any] = {"objectType": options.object_type or one.object_type}
        if one.name is not None:
            out["name"] = one.name
        if one.class_name:
            out["classification"] = self._classification(one.class_name)
        if one.locked:
            out["isLocked"] = True
        for key, value in (one.extra.get("properties") or {}).items():
            out.setdefault(key, value)
        measurements: dict[str, Any] = {k: json_number(v) for k, v in one.measurements.items()}
        if options.provenance and one.provenance.score is not None:
            measurements[SCORE] = json_number(one.provenance.score)
        if self._mpp is not None and source.area > 0:
            measurements[AREA] = round(area_um2(source, self._mpp), 4)
        if measurements:
            out["measurements"] = measurements
        metadata = dict(one.metadata)
        if options.provenance:
            metadata |= to_metadata(one, first_mask=options.first_masks)
        metadata[f"{PREFIX}origin"] = self._origin_text
        out["metadata"] = metadata
        return out

    def _classification(self, name: str) -> dict[str, Any]:
        colour = self._colours.get(name)
        if colour is None:
            colour = self._colours[name] = class_colour(name)
        # QuPath throws on a classification object without a colour.
        parts = name.split(": ")
        named: dict[str, Any] = {"names": parts} if len(parts) > 1 else {"name": name}
        return {**named, "color": list(colour)}


def json_number(value: float) -> float | str:
    """Return a number as JSON holds it: what is not finite as text, as QuPath does."""
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _is_ellipse(geometry: BaseGeometry) -> bool:
    """Tell whether an outline still fills its box as an ellipse; QuPath redraws it from the box."""
    left, top, right, bottom = geometry.bounds
    ideal = math.pi / 4 * (right - left) * (bottom - top)
    return geometry.geom_type == "Polygon" and abs(geometry.area - ideal) < 0.03 * ideal
