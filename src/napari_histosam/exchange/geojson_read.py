"""Read objects from any GeoJSON that QuPath reads or writes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely

from napari_histosam.exchange.files import SIZE_LIMIT, no_collection
from napari_histosam.exchange.geojson_parse import Draft, FeatureParser
from napari_histosam.exchange.geometry_json import geometries_from_json, shifted_json
from napari_histosam.exchange.json_stream import FeatureStream
from napari_histosam.exchange.options import ImportResult
from napari_histosam.exchange.origin import Origin
from napari_histosam.records import ObjectClass, SlideObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.exchange.origin import OriginKind

_BATCH = 1000


def read_geojson(
    path: Path,
    *,
    origin: OriginKind | Literal["auto"] = "auto",
    bounds: tuple[float, float, float, float] | None = None,
    limit: int = SIZE_LIMIT,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Read objects from a GeoJSON file.

    Parameters
    ----------
    path : Path
        Plain or gzip; a FeatureCollection, an array of features, one feature, or a geometry.
    origin : {"auto", "qupath-bounds", "full-slide"}
        "auto" takes what the file records; without a record, a file in QuPath's flavour counts
        from the slide's bounds, as QuPath does, and any other from the slide's corner.
    bounds : (x, y, w, h), optional
        The slide's bounds in level-0 px.
    limit : int
        Bytes read at most, after unpacking.
    progress : callable, optional
        Called with the number of objects read; may raise `errors.Cancelled`.

    Returns
    -------
    ImportResult
        Objects in level-0 px of the full slide, corner based; valid; holes and parts kept.

    Raises
    ------
    InputError
        One sentence: no such file, not JSON (line and column), too large, a feature at fault
        (its number).
    """
    with no_collection():
        return _read(FeatureStream(Path(path), limit), origin, bounds, progress)


def _read(
    stream: FeatureStream,
    origin: OriginKind | Literal["auto"],
    bounds: tuple[float, float, float, float] | None,
    progress: Callable[[int], None] | None,
) -> ImportResult:
    parser = FeatureParser()
    drafts: list[Draft] = []
    shapes: list[BaseGeometry] = []
    notes: Counter[str] = Counter()
    numbered = enumerate(stream, start=1)
    while batch := list(itertools.islice(numbered, _BATCH)):
        found = [draft for number, value in batch for draft in parser.drafts(value, number)]
        built, repairs = geometries_from_json(
            [draft.geometry for draft in found], [draft.number for draft in found]
        )
        notes["repaired"] += repairs
        for draft, shape in zip(found, built, strict=True):
            if shape is None or shape.is_empty:
                notes["empty"] += 1
            else:
                drafts.append(draft)
                shapes.append(shape)
        if progress is not None:
            progress(len(drafts))
    own = stream.members.get("histosam")
    recorded = Origin.read(own.get("origin")) if isinstance(own, dict) else None
    default, assumed = _default_origin(origin, bounds, recorded, drafts)
    explicit = origin != "auto"
    origins = [default if explicit or d.origin is None else d.origin for d in drafts]
    moved, shifts = _to_full_slide(shapes, origins)
    objects = []
    for draft, shape, (dx, dy) in zip(drafts, moved, shifts, strict=True):
        extra = draft.fields["extra"]
        if (dx or dy) and "nucleusGeometry" in extra:
            extra["nucleusGeometry"] = shifted_json(extra["nucleusGeometry"], dx, dy)
        objects.append(SlideObject(geometry=shape, **draft.fields))
    classes = [ObjectClass(name, colour) for name, colour in parser.colours.items()]
    warnings = [*_sentences(notes), *parser.warnings(), *assumed]
    return ImportResult(objects, classes, warnings, default)


def _default_origin(
    wanted: OriginKind | Literal["auto"],
    bounds: tuple[float, float, float, float] | None,
    recorded: Origin | None,
    drafts: list[Draft],
) -> tuple[Origin, list[str]]:
    """Return the origin of objects that record none, and what was assumed."""
    if recorded is None:
        told = Counter(draft.origin for draft in drafts if draft.origin is not None)
        recorded = told.most_common(1)[0][0] if told else None
    if wanted == "full-slide":
        return Origin("full-slide"), []
    here = Origin.of("qupath-bounds", bounds)
    if recorded is not None and wanted in ("auto", recorded.kind):
        if recorded.kind == "qupath-bounds" and bounds is not None and here != recorded:
            return recorded, [
                f"The file was written for bounds at {recorded.x:g}, {recorded.y:g}, this slide's "
                f"are at {here.x:g}, {here.y:g}; check that it is the same slide."
            ]
        return recorded, []
    if wanted == "qupath-bounds":
        return here, []
    if not any(here.shift):
        return Origin("full-slide"), []
    if any(draft.by_qupath for draft in drafts):
        return here, [
            "The file does not say where it counts from; it was taken to be QuPath's and moved by "
            f"the slide's bounds ({here.x:g}, {here.y:g}); choose the origin if it lies wrong."
        ]
    return Origin("full-slide"), [
        "The file does not say where it counts from; it was taken to count from the slide's "
        "corner; choose the origin if it lies wrong."
    ]


def _to_full_slide(
    shapes: list[BaseGeometry], origins: list[Origin]
) -> tuple[list[BaseGeometry], list[tuple[float, float]]]:
    shifts = [(one.x, one.y) for one in origins]
    if not any(dx or dy for dx, dy in shifts):
        return shapes, shifts
    array = np.empty(len(shapes), object)
    array[:] = shapes
    counts = shapely.get_num_coordinates(array)
    by: Any = np.repeat(np.asarray(shifts, np.float64), counts, axis=0)
    return shapely.set_coordinates(array, shapely.get_coordinates(array) + by).tolist(), shifts


def _sentences(notes: Counter[str]) -> list[str]:
    out = []
    if notes["repaired"]:
        out.append(f"{notes['repaired']} outlines were open or crossed themselves and were mended.")
    if notes["empty"]:
        out.append(f"{notes['empty']} features have no shape or no area and were left out.")
    return out
