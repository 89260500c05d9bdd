"""Reads the boxes that a data set lists of its objects, without looking at any mask."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Boxed:
    """The box of one object.

    Parameters
    ----------
    box : tuple of float
        Left, top, right, bottom in px of the image, corner based.
    name : str, optional
        The object's class.
    label : int, optional
        Its number in the mask, where it has an outline, too.
    """

    box: tuple[float, float, float, float]
    name: str | None = None
    label: int | None = None


def boxes_of(folder: Path, items: Sequence[dict[str, Any]]) -> dict[str, tuple[Boxed, ...]]:
    """Return the boxes of a set's images, by image; images of which none are listed are left out.

    They are read from ``"boxes"`` of an item (each a list of four numbers, or a mapping with
    ``"box"``, ``"class"`` and ``"label"``), else from ``objects.jsonl``: there, a box that a user
    drew counts as it was drawn, unless the outline was corrected, which then says where it ends.

    Raises
    ------
    InputError
        If something is listed that is no box.
    """
    out: dict[str, list[Boxed]] = {}
    for item in items:
        if isinstance(item, dict) and item.get("boxes") is not None:
            name = str(item.get("id"))
            try:
                out[name] = [_boxed(one) for one in item["boxes"]]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{folder / 'index.json'}: {name} has a box that is none ({error}): give left, "
                    "top, right and bottom."
                ) from error
    path = folder / "objects.jsonl"
    if not path.is_file():
        return {name: tuple(found) for name, found in out.items()}
    own = set(out)
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                if str(one["image"]) not in own and "box" in one:
                    told = {**one, "box": _drawn(one), "label": one.get("number")}
                    out.setdefault(str(one["image"]), []).append(_boxed(told))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it.") from error
    return {name: tuple(found) for name, found in out.items()}


def _drawn(one: dict[str, Any]) -> Any:
    """Return the box of a line of ``objects.jsonl``: the one that was drawn, if it says more."""
    if one.get("first_iou") != 1:
        return one["box"]
    drawn = [p["box"] for p in one.get("prompts", ()) if p.get("role") == "box" and "by" not in p]
    return drawn[-1] if drawn else one["box"]


def _boxed(one: Any) -> Boxed:
    given = one if isinstance(one, dict) else {"box": one}
    left, top, right, bottom = (float(value) for value in given["box"])
    if not (math.isfinite(left + top + right + bottom) and left < right and top < bottom):
        raise ValueError(f"{left}, {top}, {right}, {bottom}")
    label, name = given.get("label"), given.get("class")
    return Boxed(
        (left, top, right, bottom),
        None if name is None else str(name),
        None if label is None else int(label),
    )
