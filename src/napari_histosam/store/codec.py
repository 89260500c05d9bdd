"""Objects to table rows and back: WKB geometry, JSON for the rest, nothing lost."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.records import Prompt, Provenance, Review, SlideObject

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from shapely.geometry.base import BaseGeometry


class Encoded(NamedTuple):
    """One object as columns: ``light`` without its class, and ``heavy``, in the schema's order."""

    id: str
    class_name: str | None
    light: tuple[Any, ...]
    heavy: tuple[bytes, str, str]


def encode(objects: Sequence[SlideObject]) -> list[Encoded]:
    """Turn objects into columns.

    Raises
    ------
    InputError
        A geometry is empty or not finite, an id is empty or given twice, or an extra member
        cannot be written as JSON.
    """
    geometries = np.empty(len(objects), object)
    geometries[:] = [item.geometry for item in objects]
    _check(objects, geometries)
    bounds = shapely.bounds(geometries)
    areas = shapely.area(geometries)
    centres = shapely.centroid(geometries)
    cx, cy = shapely.get_x(centres), shapely.get_y(centres)
    blobs = shapely.to_wkb(geometries)
    encoded = []
    for i, item in enumerate(objects):
        made, review = item.provenance, item.review
        light = (
            item.object_type,
            item.name,
            int(item.locked),
            made.source,
            None if made.score is None else float(made.score),
            float(areas[i]),
            float(cx[i]),
            float(cy[i]),
            *bounds[i].tolist(),
            item.created,
            item.modified,
            *((review.state, review.author, review.time) if review else (None, None, None)),
        )
        heavy = (blobs[i], _json(_provenance(made), item), _json(_info(item), item))
        encoded.append(Encoded(item.id, item.class_name or None, light, heavy))
    return encoded


def decode(
    light: sqlite3.Row, class_name: str | None, geometry: BaseGeometry | bytes
) -> SlideObject:
    """Return the object of one row.

    Parameters
    ----------
    light : sqlite3.Row
        The columns of ``objects`` joined with ``provenance`` and ``info`` of ``bodies``.
    class_name : str, optional
    geometry : shapely geometry or WKB
    """
    info = json.loads(light["info"])
    return SlideObject(
        geometry=shapely.from_wkb(geometry) if isinstance(geometry, bytes) else geometry,
        class_name=class_name,
        id=light["id"],
        object_type=light["type"],
        name=light["name"],
        locked=bool(light["locked"]),
        created=light["created"],
        modified=light["modified"],
        provenance=_read_provenance(json.loads(light["provenance"])),
        measurements=info.get("measurements", {}),
        metadata=info.get("metadata", {}),
        extra=info.get("extra", {}),
        review=read_review(light),
    )


def read_review(light: sqlite3.Row) -> Review | None:
    """Return the review that the columns of a row hold; None if there was none."""
    if light["review"] is None:
        return None
    return Review(light["review"], light["reviewer"] or "", light["reviewed"] or "")


def _check(objects: Sequence[SlideObject], geometries: Any) -> None:
    seen: set[str] = set()
    for item in objects:
        if not item.id:
            raise InputError("An object has an empty id; give it one, or none to get a new one.")
        if item.id in seen:
            raise InputError(f"The object id {item.id} was given twice; ids must be unique.")
        seen.add(item.id)
        try:
            "".join((item.id, item.class_name or "", item.name or "")).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The object {item.id!a} has a name or class with a broken character; rename it."
            ) from error
    wrong = ~shapely.is_geometry(geometries)
    if not wrong.any():
        wrong = shapely.is_empty(geometries)
        wrong |= ~np.isfinite(shapely.bounds(geometries)).all(axis=-1)
    if wrong.any():
        item = objects[int(np.flatnonzero(wrong)[0])]
        raise InputError(
            f"The object {item.id} has an empty outline, or one with coordinates that are not "
            "numbers; leave it out or draw it again."
        )


def _json(data: Mapping[str, Any], item: SlideObject) -> str:
    try:
        return json.dumps(data, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The object {item.id} carries a value that JSON cannot hold ({error}); remove it."
        ) from error


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars and arrays into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _info(item: SlideObject) -> dict[str, Any]:
    info = {
        "measurements": dict(item.measurements),
        "metadata": dict(item.metadata),
        "extra": dict(item.extra),
    }
    return {key: value for key, value in info.items() if value}


def _geometry_text(geometry: BaseGeometry) -> str:
    return base64.b64encode(shapely.to_wkb(geometry)).decode("ascii")


def _text_geometry(text: str) -> Any:
    return shapely.from_wkb(base64.b64decode(text))


def _provenance(made: Provenance) -> dict[str, Any]:
    data: dict[str, Any] = {
        "source": made.source,
        "author": made.author,
        "model": made.model,
        "weights_hash": made.weights_hash,
        "score": made.score,
        "seconds": made.seconds,
        "window": made.window.to_dict() if made.window else None,
        "first_mask": None if made.first_mask is None else _geometry_text(made.first_mask),
        "prompts": [
            {
                "geometry": _geometry_text(prompt.geometry),
                "role": prompt.role,
                "object": prompt.object,
                "class": prompt.class_name,
                **({} if prompt.by is None else {"by": prompt.by}),
            }
            for prompt in made.prompts
        ],
    }
    return {key: value for key, value in data.items() if value not in (None, "", [])}


def _read_provenance(data: Mapping[str, Any]) -> Provenance:
    prompts = tuple(
        Prompt(_text_geometry(p["geometry"]), p["role"], p["object"], p["class"], p.get("by"))
        for p in data.get("prompts", ())
    )
    window, mask = data.get("window"), data.get("first_mask")
    return Provenance(
        source=data["source"],
        author=data.get("author", ""),
        model=data.get("model"),
        weights_hash=data.get("weights_hash"),
        window=None if window is None else Window.from_dict(window),
        prompts=prompts,
        score=data.get("score"),
        first_mask=None if mask is None else _text_geometry(mask),
        seconds=data.get("seconds"),
    )
