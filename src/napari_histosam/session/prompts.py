"""The prompts of one object in a decoder's form: clicks, box and mask in window px."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.models.protocols import ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.geometry.window import Window
    from napari_histosam.records import Prompt

    Bounds = tuple[float, float, float, float]

# A scribble becomes this many clicks at most; more tire the decoder without telling it more.
SCRIBBLE_POINTS = 12


def group(prompts: Sequence[Prompt]) -> dict[str, tuple[Prompt, ...]]:
    """Group prompts by object, in the order of each object's first prompt."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.object, []).append(prompt)
    return {key: tuple(values) for key, values in groups.items()}


def bounds_of(prompts: Sequence[Prompt]) -> Bounds:
    """Return left, top, right, bottom of all prompts in level-0 px."""
    left, top, right, bottom = shapely.total_bounds(
        np.array([p.geometry for p in prompts], dtype=object)
    )
    return float(left), float(top), float(right), float(bottom)


def side_of(prompts: Sequence[Prompt]) -> float | None:
    """Return the longer side of what boxes and masks show of the object, level-0 px, if any do."""
    shown = [p for p in prompts if p.role in ("box", "mask")]
    if not shown:
        return None
    left, top, right, bottom = bounds_of(shown)
    return max(right - left, bottom - top)


def to_window(prompts: Sequence[Prompt], window: Window) -> ObjectPrompts:
    """Turn the prompts of one object into a decoder's form.

    Parameters
    ----------
    prompts : sequence of Prompt
        Of one object, level-0 px.
    window : Window

    Returns
    -------
    ObjectPrompts
        In window px; of several boxes the last counts, several masks are united.

    Raises
    ------
    InputError
        If there is nothing positive among them: a negative click alone names no object.
    """
    box = None
    masks = []
    points: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for prompt in prompts:
        if prompt.role == "box":
            left, top, right, bottom = prompt.geometry.bounds
            box = window.from_level0([[left, top], [right, bottom]]).ravel()
        elif prompt.role == "mask":
            masks.append(prompt.geometry)
        else:
            at = clicks_of(prompt)
            points.append(window.from_level0(at))
            labels.extend([int(prompt.role == "positive")] * len(at))
    if box is None and not masks and 1 not in labels:
        raise InputError(
            "The object has only negative clicks; add a positive click or a box inside it first."
        )
    return ObjectPrompts(
        points=np.concatenate(points) if points else None,
        labels=np.array(labels, np.int64) if points else None,
        box=box,
        mask=polygons_to_mask(shapely.union_all(masks), window) if masks else None,
    )


def clicks_of(prompt: Prompt) -> NDArray[np.float64]:
    """Return the points (n, 2) that stand for a click or a scribble, level-0 px."""
    geometry = prompt.geometry
    if geometry.geom_type == "LineString" and geometry.length > 0:
        count = min(SCRIBBLE_POINTS, max(2, len(geometry.coords)))
        steps = np.linspace(0, 1, count)
        geometry = shapely.MultiPoint(
            shapely.line_interpolate_point(geometry, steps, normalized=True)
        )
    elif geometry.geom_type == "LineString":  # of no length: a click
        geometry = shapely.Point(geometry.coords[0])
    return np.asarray(shapely.get_coordinates(geometry), np.float64)


def is_single_click(prompts: Sequence[Prompt]) -> bool:
    """Whether one click is all there is: then several masks are worth asking for (SAM, §3)."""
    return len(prompts) == 1 and prompts[0].geometry.geom_type == "Point"
