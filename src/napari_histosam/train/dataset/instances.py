"""What is kept of each object in a window: class, provenance, prompts, and the first mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.polygons import clean
from napari_histosam.train.dataset import rle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from shapely import MultiPolygon, Polygon

    from napari_histosam.geometry.window import Window
    from napari_histosam.records import Prompt, SlideObject
    from napari_histosam.train.dataset.drawing import Instance

    Shape: TypeAlias = Polygon | MultiPolygon


def first_iou(one: SlideObject, shape: Shape) -> float | None:
    """Return the IoU of the model's first mask and the accepted outline.

    Parameters
    ----------
    one : SlideObject
    shape : Polygon or MultiPolygon
        The accepted outline, level-0 px.

    Returns
    -------
    float or None
        1 where nothing was corrected, to 6 places; None without a first mask.
    """
    made = one.provenance.first_mask
    if made is None or not np.isfinite(shapely.get_coordinates(made)).all():
        return None
    first = clean(made)
    if first is None:
        return None
    both = float(shapely.intersection(first, shape).area)
    return round(both / (float(first.area) + float(shape.area) - both), 6)


def record(
    image: str,
    seen: Instance,
    one: SlideObject,
    window: Window,
    *,
    home: bool,
    corrected: float | None,
) -> dict[str, Any]:
    """Return the line of ``objects.jsonl`` of one object in one window.

    Parameters
    ----------
    image : str
        The window's id.
    seen : Instance
    one : SlideObject
    window : Window
    home : bool
        Whether this is the window to learn the object from.
    corrected : float or None
        What `first_iou` says.

    Returns
    -------
    dict
        JSON-ready; all places in px of the window, corner based.
    """
    made = one.provenance
    rows, columns = np.flatnonzero(seen.mask.any(1)), np.flatnonzero(seen.mask.any(0))
    line: dict[str, Any] = {
        "image": image,
        "number": seen.number,
        "object": one.id,
        "class": one.class_name,
        "home": home,
        "whole": seen.whole,
        "visible": round(seen.visible, 6),
        "area": seen.area,
        "box": [
            seen.left + int(columns[0]),
            seen.top + int(rows[0]),
            seen.left + int(columns[-1]) + 1,
            seen.top + int(rows[-1]) + 1,
        ],
        "source": made.source,
        "model": made.model,
        "weights": made.weights_hash,
        "score": finite(made.score),
        "review": None if one.review is None else one.review.state,
        "first_iou": corrected,
        "first": None,
        "prompts": list(_prompts(made.prompts, window)),
    }
    if corrected is not None:
        line["first"] = rle.encode(polygons_to_mask(made.first_mask, window))
    if seen.visible < 1:
        line["mask"] = rle.encode(seen.in_window(window.size))
    return line


def finite(score: float | None) -> float | None:
    """Return a score to 6 places; None where there is none or it is no number."""
    return round(float(score), 6) if score is not None and math.isfinite(score) else None


def _prompts(prompts: Iterable[Prompt], window: Window) -> Iterable[dict[str, Any]]:
    for prompt in prompts:
        places = shapely.get_coordinates(prompt.geometry)
        if not len(places) or not np.isfinite(places).all():
            continue
        if prompt.role == "mask":
            yield {"role": "mask", "mask": rle.encode(polygons_to_mask(prompt.geometry, window))}
            continue
        xy = window.from_level0(places)
        if prompt.role == "box":
            corners = [*xy.min(0).tolist(), *xy.max(0).tolist()]
            by = {} if prompt.by is None else {"by": prompt.by}
            yield {"role": "box", "box": [round(value, 3) for value in corners], **by}
            continue
        kind = "scribble" if prompt.geometry.geom_type == "LineString" else "point"
        yield {"role": prompt.role, "kind": kind, "xy": xy.round(3).tolist()}
