"""Colours of classes: the given one, QuPath's usual one, or a stable one made from the name."""

from __future__ import annotations

import colorsys
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_histosam.records import Colour, ObjectClass

# What a fresh QuPath shows for these names.
_USUAL: dict[str, Colour] = {
    "tumor": (200, 0, 0),
    "tumour": (200, 0, 0),
    "stroma": (150, 200, 150),
    "immune cells": (160, 90, 160),
    "necrosis": (50, 50, 50),
    "other": (255, 200, 0),
    "region*": (0, 0, 180),
    "ignore*": (180, 180, 180),
    "positive": (200, 50, 50),
    "negative": (90, 90, 180),
}


def class_colour(name: str, known: Mapping[str, Colour] | None = None) -> Colour:
    """Return the RGB colour of a class; the same name gives the same colour everywhere.

    Parameters
    ----------
    name : str
    known : mapping of str to (int, int, int), optional
        Colours that are already given.
    """
    if known and name in known:
        return known[name]
    usual = _USUAL.get(name.casefold())
    if usual is not None:
        return usual
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    r, g, b = colorsys.hsv_to_rgb(
        int.from_bytes(digest[:2], "big") / 65536, 0.6 + digest[2] / 640, 0.65 + digest[3] / 800
    )
    return (round(255 * r), round(255 * g), round(255 * b))


def known_colours(classes: Iterable[ObjectClass]) -> dict[str, Colour]:
    """Return the colours by class name."""
    return {one.name: one.colour for one in classes}


def read_colour(value: Any) -> Colour | None:
    """Read a colour as QuPath wrote it over the years.

    ``[r, g, b]`` is today's form, a signed 32-bit integer (``0xAARRGGBB``) the one before 0.4.
    Returns None for anything else.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return ((value >> 16) & 255, (value >> 8) & 255, value & 255)
    if isinstance(value, list) and len(value) in (3, 4):
        if all(isinstance(v, int | float) and 0 <= v <= 255 for v in value):
            return (int(value[0]), int(value[1]), int(value[2]))
    return None
