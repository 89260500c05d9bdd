"""Read one GeoJSON feature's facts: id, kind, class, measurements, metadata, all but its shape."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from napari_histosam.errors import InputError
from napari_histosam.exchange.colours import class_colour, read_colour
from napari_histosam.exchange.geojson_features import AREA, SCORE, is_uuid
from napari_histosam.exchange.geometry_json import COLLECTION, KINDS
from napari_histosam.exchange.origin import Origin
from napari_histosam.exchange.provenance import from_metadata
from napari_histosam.records import ObjectType, new_id, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_histosam.records import Colour

_KINDS: dict[str, ObjectType] = {
    **{kind: kind for kind in get_args(ObjectType)},
    "tma_core": "tmaCore",
    # QuPath 0.2 stored its Java class as the id.
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
}
_ROOTS = ("root", "PathRootObject")
_OWN_PROPERTIES = {
    "objectType", "object_type", "name", "classification", "isLocked", "measurements",
    "metadata", "childObjects", "children",
}  # fmt: skip
_OWN_MEMBERS = {"type", "id", "geometry", "properties", "bbox", "nucleusGeometry"}
_OWN_GEOMETRY = {"type", "coordinates", "geometries", "bbox", "crs", "plane", "isEllipse"}
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TEXT_LIMIT = 1000


@dataclass(frozen=True)
class Draft:
    """A feature as read, before its shape is built.

    Parameters
    ----------
    number : int
        Of the top-level feature, from 1.
    geometry : parsed JSON
    fields : dict
        Arguments of `SlideObject` but the geometry.
    origin : Origin, optional
        What the object's own metadata says.
    by_qupath : bool
        Whether it has QuPath's ``objectType``.
    """

    number: int
    geometry: Any
    fields: dict[str, Any]
    origin: Origin | None
    by_qupath: bool


class FeatureParser:
    """Reads features; gathers classes and notes on the way.

    Attributes
    ----------
    colours : dict of str to colour
        Classes in order of appearance.
    notes : Counter
        What was changed, by kind.
    """

    def __init__(self) -> None:
        self.colours: dict[str, Colour] = {}
        self.notes: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._origins: dict[str, Origin | None] = {}
        self._begun = now()

    def drafts(self, value: Any, number: int) -> Iterator[Draft]:
        """Yield the drafts of one top-level feature: itself, then its children, flattened.

        Parameters
        ----------
        value : parsed JSON
            A Feature or a bare geometry.
        number : int
            From 1, for messages.

        Raises
        ------
        InputError
            If it is neither.
        """
        todo: list[tuple[Any, str | None]] = [(value, None)]
        while todo:
            feature, parent = todo.pop()
            if not isinstance(feature, dict):
                raise InputError(f"Feature {number} is not a JSON object; fix or remove it.")
            kind = feature.get("type")
            if kind in KINDS or kind == COLLECTION:
                feature = {"geometry": feature}
            elif kind not in ("Feature", None) or "geometry" not in feature:
                raise InputError(
                    f"Feature {number} is neither a Feature nor a geometry; fix or remove it."
                )
            properties = feature.get("properties")
            if not isinstance(properties, dict):
                properties = {}
            draft = self._draft(feature, properties, number, parent)
            children = properties.get("childObjects", properties.get("children"))
            if isinstance(children, list):
                own = None if draft is None else draft.fields["id"]
                todo += [(child, own) for child in reversed(children)]
                self.notes["children"] += len(children)
            if draft is not None:
                yield draft

    def _draft(
        self, feature: dict[str, Any], properties: dict[str, Any], number: int, parent: str | None
    ) -> Draft | None:
        told = feature.get("id")
        kind, by_qupath = self._kind(properties, told)
        if kind is None:
            return None
        geometry = feature.get("geometry")
        metadata = _texts(properties.get("metadata"))
        reading = from_metadata(metadata)
        if reading.bad:
            self.notes["metadata"] += 1
        extra = _extra(feature, geometry, properties)
        parent = parent or reading.parent
        if parent is not None:
            extra["parentId"] = parent
        name = properties.get("name")
        fields = {
            "id": self._id(told),
            "class_name": self._class(properties.get("classification")),
            "object_type": kind,
            "name": name[:_TEXT_LIMIT] if isinstance(name, str) else None,
            "locked": properties.get("isLocked") is True,
            "created": reading.times.get("created", self._begun),
            "modified": reading.times.get("modified", self._begun),
            "provenance": reading.provenance,
            "review": reading.review,
            "measurements": self._measurements(properties.get("measurements")),
            "metadata": reading.foreign,
            "extra": extra,
        }
        return Draft(number, geometry, fields, self._origin(reading.origin), by_qupath)

    def _id(self, told: Any) -> str:
        if is_uuid(told) and told not in self._ids:
            self._ids.add(told)
            return str(told)
        if told is not None:
            self.notes["twice" if is_uuid(told) else "id"] += 1
        return new_id()

    def _origin(self, text: str | None) -> Origin | None:
        if text is None:
            return None
        if text not in self._origins:
            self._origins[text] = Origin.read(text)
        return self._origins[text]

    def _kind(self, properties: dict[str, Any], told: Any) -> tuple[ObjectType | None, bool]:
        for key in ("objectType", "object_type", "type"):
            value = properties.get(key)
            if not isinstance(value, str):
                continue
            if value in _ROOTS:
                return None, True
            if value not in _KINDS:
                self.notes["kind"] += key != "type"
            return _KINDS.get(value, "annotation"), key != "type"
        if isinstance(told, str) and told in _ROOTS:
            return None, True
        if isinstance(told, str) and told in _KINDS:
            return _KINDS[told], True
        return "annotation", False

    def _class(self, told: Any) -> str | None:
        colour = None
        if isinstance(told, dict):
            colour = read_colour(told.get("color", told.get("colorRGB")))
            told = told.get("names") or told.get("name")
        if isinstance(told, list):
            told = ": ".join(str(part) for part in told if part)
        if not isinstance(told, str) or not told.strip() or told == "Unclassified":
            return None
        name = told[:_TEXT_LIMIT]
        if name not in self.colours:
            self.colours[name] = colour or class_colour(name)
        return name

    def _measurements(self, told: Any) -> dict[str, float]:
        if isinstance(told, list):
            told = {
                entry["name"]: entry.get("value")
                for entry in told
                if isinstance(entry, dict) and isinstance(entry.get("name"), str)
            }
        if not isinstance(told, dict):
            return {}
        out: dict[str, float] = {}
        for name, value in told.items():
            if name in (SCORE, AREA):  # made anew from provenance and shape on writing
                continue
            if isinstance(value, str):
                value = _NUMBERS.get(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                try:
                    out[name] = float(value)
                except OverflowError:
                    self.notes["measurement"] += 1
            else:
                self.notes["measurement"] += 1
        return out

    def warnings(self) -> list[str]:
        """Return what the user should know, one sentence each."""
        sentences = {
            "id": "{} had an id that is no UUID and got a new one",
            "twice": "{} had an id that another has too and got a new one",
            "kind": "{} had an unknown objectType and became an annotation",
            "children": "{} lay inside another and is now beside it",
            "metadata": "{} had provenance that could not be read; it is kept as text",
            "measurement": "{} was no number and was left out",
        }
        return [
            sentences[kind].format(
                f"{n} {'measurement' if kind == 'measurement' else 'object'}{'s' * (n > 1)}"
            )
            + "."
            for kind, n in self.notes.items()
            if n
        ]


def _extra(feature: dict[str, Any], geometry: Any, properties: dict[str, Any]) -> dict[str, Any]:
    """Gather what this project does not use, for the way back."""
    out: dict[str, Any] = {}
    if isinstance(geometry, dict):
        if geometry.get("plane") is not None:
            out["plane"] = geometry["plane"]
        if geometry.get("isEllipse") is True:
            out["isEllipse"] = True
        if geometry.keys() - _OWN_GEOMETRY:
            out["geometryMembers"] = {k: v for k, v in geometry.items() if k not in _OWN_GEOMETRY}
    if isinstance(feature.get("nucleusGeometry"), dict):
        out["nucleusGeometry"] = feature["nucleusGeometry"]
    if feature.keys() - _OWN_MEMBERS:
        out["members"] = {k: v for k, v in feature.items() if k not in _OWN_MEMBERS}
    if properties.keys() - _OWN_PROPERTIES:
        rest = {k: v for k, v in properties.items() if k not in _OWN_PROPERTIES}
        if rest.get("type") in _KINDS:
            del rest["type"]
        if rest:
            out["properties"] = rest
    return out


def _texts(told: Any) -> dict[str, str]:
    """Return metadata as a string map; QuPath knows no other."""
    if not isinstance(told, dict):
        return {}
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in told.items()
        if value is not None
    }
