"""Read and write prompt files: GeoJSON whose features say which object each prompt belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import SIZE_LIMIT, new_file
from napari_histosam.exchange.geometry_json import geometries_from_json
from napari_histosam.exchange.json_stream import FeatureStream
from napari_histosam.records import Prompt, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shapely.geometry.base import BaseGeometry

_FITS: dict[Role, tuple[str, ...]] = {
    "positive": ("Point", "MultiPoint", "LineString"),
    "negative": ("Point", "MultiPoint", "LineString"),
    "box": ("Polygon",),
    "mask": ("Polygon", "MultiPolygon"),
}


def read_prompts(path: Path, limit: int = SIZE_LIMIT) -> list[Prompt]:
    """Read a prompt file.

    Parameters
    ----------
    path : Path
        A GeoJSON FeatureCollection in level-0 px, corner based. Properties of each feature:
        ``object`` (groups the prompts of one object), ``role`` (positive, negative, box, mask)
        and, optionally, ``class``.
    limit : int
        Bytes read at most.

    Returns
    -------
    list of Prompt
        In the file's order; a MultiPoint gives one prompt per point.

    Raises
    ------
    InputError
        With the feature's number.
    """
    prompts: list[Prompt] = []
    classes: dict[str, str] = {}
    for number, feature in enumerate(FeatureStream(Path(path), limit), start=1):
        for prompt in _prompts(feature, number):
            if prompt.class_name is not None:
                first = classes.setdefault(prompt.object, prompt.class_name)
                if first != prompt.class_name:
                    raise InputError(
                        f"Feature {number} gives object {prompt.object} the class "
                        f"{prompt.class_name}, an earlier one gave it {first}; keep one."
                    )
            prompts.append(prompt)
    if not prompts:
        raise InputError(f"{Path(path).name} holds no prompts; add points, boxes or scribbles.")
    return prompts


def write_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write a prompt file that `read_prompts` reads.

    Parameters
    ----------
    prompts : iterable of Prompt
        Level-0 px.
    path : Path

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = Path(path)
    features = [_feature(prompt) for prompt in prompts]
    with new_file(path) as temporary:
        temporary.write_text(
            json.dumps({"type": "FeatureCollection", "features": features}, indent=1),
            encoding="utf-8",
        )


def _feature(prompt: Prompt) -> dict[str, Any]:
    properties: dict[str, Any] = {"object": prompt.object, "role": prompt.role}
    if prompt.class_name is not None:
        properties["class"] = prompt.class_name
    if prompt.by is not None:
        properties["by"] = prompt.by
    return {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(prompt.geometry)),
        "properties": properties,
    }


def _prompts(feature: Any, number: int) -> list[Prompt]:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict) or not isinstance(feature.get("geometry"), dict):
        raise InputError(
            f"Feature {number} is no prompt: it needs a geometry and the properties "
            "object and role."
        )
    role = properties.get("role")
    if role not in get_args(Role):
        raise InputError(
            f"Feature {number} has the role {role!r}; choose positive, negative, box or mask."
        )
    role = cast("Role", role)
    of = properties.get("object")
    if isinstance(of, bool) or not isinstance(of, str | int | float) or of == "":
        raise InputError(
            f"Feature {number} has no object; give the prompts of one object the same text there."
        )
    class_name = properties.get("class")
    if class_name is not None and (not isinstance(class_name, str) or not class_name):
        raise InputError(f"Feature {number} has a class that is no text; write its name.")
    geometry = geometries_from_json([feature["geometry"]], [number])[0][0]
    if geometry is None or geometry.is_empty:
        raise InputError(f"Feature {number} has no extent; draw it again.")
    if geometry.geom_type not in _FITS[role]:
        raise InputError(
            f"Feature {number} is a {geometry.geom_type} with the role {role}; "
            f"that role takes {' or '.join(_FITS[role])}."
        )
    if role == "box" and not _upright(geometry):
        raise InputError(f"Feature {number} is no upright rectangle; draw the box anew.")
    parts = shapely.get_parts(geometry) if geometry.geom_type == "MultiPoint" else [geometry]
    by = properties.get("by")
    named = by if isinstance(by, str) and by else None
    return [Prompt(part, role, str(of), class_name, named) for part in parts]


def _upright(geometry: BaseGeometry) -> bool:
    return bool(geometry.area >= (1 - 1e-6) * geometry.envelope.area)
