"""An object's provenance as QuPath metadata: text under ``histosam:`` keys, and back.

Every geometry in these values (prompts, window, first mask) is in level-0 px of the full
slide, whatever the origin of the file's own geometries.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import shapely
from shapely.errors import ShapelyError

from napari_histosam.geometry.polygons import clean
from napari_histosam.geometry.window import Window
from napari_histosam.records import Prompt, Provenance, Review, ReviewState, Role, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_histosam.records import SlideObject

PREFIX = "histosam:"
_READ = {
    "source", "author", "model", "weights", "window", "prompts", "score", "first_mask",
    "seconds", "created", "modified", "origin", "parent", "review", "reviewer", "reviewed",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What metadata said: provenance, times, review, parent, origin, the foreign rest, bad keys."""

    provenance: Provenance
    times: dict[str, str]
    parent: str | None
    origin: str | None
    foreign: dict[str, str]
    bad: tuple[str, ...]
    review: Review | None = None


def to_metadata(one: SlideObject, *, first_mask: bool = True) -> dict[str, str]:
    """Return an object's provenance and times as a string map, empty values left out.

    Parameters
    ----------
    one : SlideObject
    first_mask : bool
        Also write the model's first mask as WKT (two decimals).
    """
    from_where = one.provenance
    out: dict[str, str | None] = {
        "source": from_where.source,
        "author": from_where.author or None,
        "model": from_where.model,
        "weights": from_where.weights_hash,
        "score": _number(from_where.score),
        "seconds": _number(from_where.seconds),
        "created": one.created,
        "modified": one.modified,
        "parent": _text(one.extra.get("parentId")),
    }
    if one.review is not None:
        out["review"] = one.review.state
        out["reviewer"] = one.review.author or None
        out["reviewed"] = one.review.time or None
    if from_where.window is not None:
        out["window"] = _dump(from_where.window.to_dict())
    if from_where.prompts:
        out["prompts"] = _dump([_prompt_to_dict(prompt) for prompt in from_where.prompts])
    if first_mask and from_where.first_mask is not None:
        out["first_mask"] = shapely.to_wkt(from_where.first_mask, rounding_precision=2)
    return {PREFIX + key: value for key, value in out.items() if value is not None}


def from_metadata(metadata: Mapping[str, str]) -> Reading:
    """Read what `to_metadata` wrote; what is not ours or does not parse is kept as foreign.

    Without a ``histosam:source`` the object counts as imported.
    """
    own: dict[str, Any] = {}
    times: dict[str, str] = {}
    foreign: dict[str, str] = {}
    bad: list[str] = []
    for key, value in metadata.items():
        name = key.removeprefix(PREFIX)
        if name == key or name not in _READ:
            foreign[key] = value
            continue
        try:
            if name in ("created", "modified"):
                times[name] = value
            else:
                own[name] = _parse(name, value)
        except (ValueError, KeyError, TypeError, RecursionError, ShapelyError):
            foreign[key] = value
            bad.append(key)
    provenance = Provenance(
        source=own.get("source", "imported"),
        author=own.get("author", ""),
        model=own.get("model"),
        weights_hash=own.get("weights"),
        window=own.get("window"),
        prompts=own.get("prompts", ()),
        score=own.get("score"),
        first_mask=own.get("first_mask"),
        seconds=own.get("seconds"),
    )
    review = None
    if "review" in own:
        review = Review(own["review"], own.get("reviewer", ""), own.get("reviewed", ""))
    return Reading(
        provenance, times, own.get("parent"), own.get("origin"), foreign, tuple(bad), review
    )


def _parse(name: str, value: str) -> Any:
    if name == "source":
        if value not in get_args(Source):
            raise ValueError(value)
        return value
    if name == "review":
        if value not in get_args(ReviewState):
            raise ValueError(value)
        return value
    if name in ("score", "seconds"):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number
    if name == "window":
        return Window.from_dict(json.loads(value))
    if name == "prompts":
        return tuple(_prompt_from_dict(entry) for entry in json.loads(value))
    if name == "first_mask":
        return clean(shapely.from_wkt(value))
    return value


def _prompt_to_dict(prompt: Prompt) -> dict[str, str]:
    out = {
        "role": prompt.role,
        "object": prompt.object,
        "wkt": shapely.to_wkt(prompt.geometry, rounding_precision=4),
    }
    if prompt.class_name is not None:
        out["class"] = prompt.class_name
    if prompt.by is not None:
        out["by"] = prompt.by
    return out


def _prompt_from_dict(entry: dict[str, Any]) -> Prompt:
    if entry["role"] not in get_args(Role):
        raise ValueError(entry["role"])
    return Prompt(
        geometry=shapely.from_wkt(entry["wkt"]),
        role=cast("Role", entry["role"]),
        object=str(entry.get("object", "1")),
        class_name=_text(entry.get("class")),
        by=_text(entry.get("by")),
    )


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _number(value: float | None) -> str | None:
    return None if value is None else repr(float(value))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
