"""Fits prompts to a slide and a model: clips what sticks out, refuses what cannot be used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry import polygons

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.records import Prompt

_WORDS = {
    "point": "click",
    "negative": "negative click",
    "box": "box",
    "scribble": "scribble",
    "mask": "mask",
}


def kind_of(prompt: Prompt) -> str:
    """Return what model cards call a prompt: point, negative, box, scribble or mask."""
    if prompt.role in ("box", "mask"):
        return prompt.role
    if prompt.geometry.geom_type == "LineString":
        return "scribble"
    return "point" if prompt.role == "positive" else "negative"


def check_taken(prompts: Iterable[Prompt], card: ModelCard, named: bool = False) -> None:
    """Refuse prompts of a kind that a model does not take.

    Raises
    ------
    InputError
        For the first of them; ``named`` says of which object it is.
    """
    if not card.takes:
        raise InputError(
            f"{card.name} takes no prompts, it tells areas apart by itself: choose another model."
        )
    for prompt in prompts:
        kind = kind_of(prompt)
        if kind not in card.takes:
            of = f" (object {prompt.object})" if named else ""
            raise InputError(
                f"{card.name} takes no {_WORDS[kind]} as a prompt{of}; it takes "
                f"{', '.join(_WORDS[k] for k in card.takes)}: choose another model or prompt."
            )


def fitted(
    prompts: Iterable[Prompt], size: tuple[int, int], card: ModelCard, *, named: bool = False
) -> list[Prompt]:
    """Return prompts as they lie on the slide.

    Parameters
    ----------
    prompts : iterable of Prompt
        Level-0 px.
    size : tuple of int
        The slide's width and height.
    card : ModelCard
        Of the model that shall answer.
    named : bool
        Say in messages of which object the prompt is: for files with many.

    Returns
    -------
    list of Prompt
        Boxes, scribbles and masks that reach over the slide's edge are clipped to it.

    Raises
    ------
    InputError
        If a prompt is of a kind that the model does not take, has a coordinate that is no
        number, has no area where it needs one, or lies outside the slide.
    """
    given = list(prompts)
    check_taken(given, card, named)
    return [_on_slide(prompt, size, named) for prompt in given]


def _on_slide(prompt: Prompt, size: tuple[int, int], named: bool) -> Prompt:
    geometry = prompt.geometry
    word = _WORDS[kind_of(prompt)] + (f" of object {prompt.object}" if named else "")
    if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InputError(f"The {word} has a coordinate that is no number; draw it again.")
    if prompt.role == "box" and not geometry.area > 0:
        raise InputError(f"The {word} has no area; drag from one corner to the opposite one.")
    left, top, right, bottom = geometry.bounds
    if left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]:
        return prompt
    clipped = _clipped(geometry, size)
    if clipped is None:
        raise InputError(
            f"The {word} lies outside the slide of {size[0]:,} x {size[1]:,} px; place it on the "
            "slide (in level-0 px)."
        )
    return replace(prompt, geometry=clipped)


def _clipped(geometry: BaseGeometry, size: tuple[int, int]) -> BaseGeometry | None:
    area = shapely.box(0, 0, *size)
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return polygons.intersection(geometry, area)
    if geometry.geom_type == "Point":
        return None
    # The path in the order in which it was drawn, which an intersection would not keep.
    at = shapely.get_coordinates(geometry)
    inside = at[((at >= 0) & (at <= size)).all(1)]
    if len(inside) < 2:
        return shapely.Point(inside[0]) if len(inside) else None
    return shapely.LineString(inside)
