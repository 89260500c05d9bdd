"""Reads what a data set records of its objects: their homes, first prompts, and corrections."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """How an object came to be.

    Parameters
    ----------
    first_iou : float, optional
        IoU of the model's first mask and the accepted outline, 0 to 1; 1 where nothing was
        corrected, None without a first mask.
    click : (x, y), optional
        The user's first prompt, if it was a positive click, in px of the image, corner based.
    box : (left, top, right, bottom), optional
        The user's first prompt, if it was a box.
    used : (left, top, right, bottom), optional
        The box that a model of boxes only was given in place of the user's prompts: what such a
        model is to be asked again.
    """

    first_iou: float | None = None
    click: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    used: tuple[float, float, float, float] | None = None


@dataclass
class Records:
    """What ``objects.jsonl`` says of one image.

    Parameters
    ----------
    homes : set of int
        Labels of the objects to be counted here.
    objects : dict of int to Recorded
        Of those labels of which anything is known.
    """

    homes: set[int] = field(default_factory=set)
    objects: dict[int, Recorded] = field(default_factory=dict)


def records(folder: Path) -> dict[str, Records] | None:
    """Return what a set records, by image, or None where it records nothing.

    Prompts count in an object's home only: elsewhere they can lie outside of the image.

    Raises
    ------
    InputError
        If ``objects.jsonl`` is there and cannot be read.
    """
    path = folder / "objects.jsonl"
    if not path.is_file():
        return None
    found: dict[str, Records] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                here = found.setdefault(str(one["image"]), Records())
                number, home = int(one["number"]), bool(one.get("home", True))
                if home:
                    here.homes.add(number)
                told = _recorded(one, home)
                if told != Recorded():
                    here.objects[number] = told
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it.") from error
    return found


def _recorded(line: dict[str, Any], home: bool) -> Recorded:
    given = line.get("first_iou")
    iou = None if given is None else float(given)
    if iou is not None and not 0 <= iou <= 1:
        raise ValueError(f"first_iou: {given} is no IoU")
    prompts = line.get("prompts") or ()
    if not home or not prompts:
        return Recorded(iou)
    made = [_corners(one["box"]) for one in prompts if one.get("by") is not None]
    used = made[-1] if made else None
    first = prompts[0]
    if first.get("role") == "box" and first.get("by") is None:
        return Recorded(iou, box=_corners(first["box"]), used=used)
    if first.get("role") == "positive" and first.get("kind") == "point":
        ((x, y),) = (_numbers(place) for place in first["xy"])
        return Recorded(iou, click=(x, y), used=used)
    return Recorded(iou, used=used)


def _corners(values: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = _numbers(values)
    return left, top, right, bottom


def _numbers(values: Any) -> list[float]:
    found = [float(value) for value in values]
    if not all(math.isfinite(value) for value in found):
        raise ValueError("prompts: a place is no number")
    return found
