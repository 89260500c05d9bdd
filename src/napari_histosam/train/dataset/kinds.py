"""Sorts a slide's objects: what is truth, what marks regions, what is unknown, what is no use."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.polygons import clean, intersection

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from shapely import MultiPolygon, Polygon

    from napari_histosam.records import SlideObject

    Shape: TypeAlias = Polygon | MultiPolygon

Use = Literal["object", "region", "ignore"]

REGION = "Region*"
"""The class that this program gives to regions; QuPath's own name for it."""
_REGION = re.compile(r"(region|fully[ -]label+ed)[\s*\d]*")
_IGNORE = re.compile(r"ignore[\s*\d]*")

SENTENCES = {
    "no area": "points, lines or outlines without an area",
    "container": "tiles or cores of a tissue array, which hold objects but are none",
    "outside": "outlines outside their slide",
    "automatic": (
        "automatic objects that nobody accepted or corrected (taken as unknown; --automatic takes "
        "them)"
    ),
    "unreviewed": "objects that nobody has reviewed (taken as unknown)",
    "covered": "objects that are too small to hold a pixel, or covered by others",
}
"""Why something did not become an object of the data set, in the plural."""


@dataclass(frozen=True)
class Marked:
    """One slide's objects by their use.

    Parameters
    ----------
    objects : tuple of SlideObject
        Truth, in the order given.
    shapes : tuple of Polygon or MultiPolygon
        Their outlines: valid, inside the slide, level-0 px.
    regions : tuple of Polygon or MultiPolygon
        Where everything is labelled.
    unknown : tuple of Polygon or MultiPolygon
        Where nothing can be said, also inside regions.
    left_out : Counter of str
        How many were of no use, by the keys of `SENTENCES`.
    digests : dict of str to str
        Object id → a short hash of its outline, class and use, to find out what changes.
    """

    objects: tuple[SlideObject, ...]
    shapes: tuple[Shape, ...]
    regions: tuple[Shape, ...] = ()
    unknown: tuple[Shape, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    digests: dict[str, str] = field(default_factory=dict)


def role_of(class_name: str | None, region_classes: Iterable[str] = ()) -> Use:
    """Return what an object of a class is for.

    Parameters
    ----------
    class_name : str or None
        ``Region*`` (QuPath's own name for it; also ``Region`` and ``Region 2``) and ``Fully
        labelled`` mark regions in which everything is labelled, ``Ignore*`` (QuPath's, too) what
        shall not be used. Case and what follows a colon (QuPath's derived classes) do not matter.
    region_classes : iterable of str
        More names for regions, to the letter.
    """
    if class_name is None:
        return "object"
    if class_name in set(region_classes):
        return "region"
    first = class_name.partition(":")[0].strip().casefold()
    if _REGION.fullmatch(first):
        return "region"
    return "ignore" if _IGNORE.fullmatch(first) else "object"


def mark(
    objects: Iterable[SlideObject],
    size: tuple[int, int],
    region_classes: Iterable[str] = (),
    *,
    automatic: bool = False,
    reviewed_only: bool = False,
) -> Marked:
    """Sort the objects of one slide.

    Parameters
    ----------
    objects : iterable of SlideObject
        Level-0 px. Of several with one id the first counts.
    size : (int, int)
        Width and height of the slide in level-0 px; what sticks out is cut off.
    region_classes : iterable of str
        As in `role_of`.
    automatic : bool
        Whether automatic objects that nobody accepted or corrected are truth; else they are
        unknown.
    reviewed_only : bool
        Whether only what was accepted or corrected in a review is truth; all else is unknown.
    """
    more = tuple(region_classes)
    slide = shapely.box(0, 0, *size)
    truth: list[tuple[SlideObject, Shape]] = []
    regions: list[Shape] = []
    unknown: list[Shape] = []
    left_out: Counter[str] = Counter()
    digests: dict[str, str] = {}
    for one in objects:
        if one.id in digests:
            continue
        whole = _outline(one)
        role = role_of(one.class_name, more)
        if whole is None:
            left_out["no area"] += 1
            continue
        if role == "object" and one.object_type in ("tile", "tmaCore"):
            left_out["container"] += 1
            continue
        shape = whole if slide.contains(whole) else intersection(whole, slide)
        if shape is None:
            left_out["outside"] += 1
            continue
        digests[one.id] = _digest(shape, one.class_name, role)
        if role == "region":
            regions.append(shape)
        elif role == "ignore":
            unknown.append(shape)
        elif reviewed_only and one.review is None:
            left_out["unreviewed"] += 1
            unknown.append(shape)
        elif not automatic and _unseen(one, whole):
            left_out["automatic"] += 1
            unknown.append(shape)
        else:
            truth.append((one, shape))
    return Marked(
        objects=tuple(one for one, _ in truth),
        shapes=tuple(shape for _, shape in truth),
        regions=tuple(regions),
        unknown=tuple(unknown),
        left_out=left_out,
        digests=digests,
    )


def _outline(one: SlideObject) -> Shape | None:
    try:
        return clean(one.geometry)
    except InputError:  # a coordinate that is no number
        return None


def _unseen(one: SlideObject, shape: Shape) -> bool:
    """Tell whether an object is a model's automatic answer as it came."""
    made = one.provenance
    if made.source != "automatic" or one.review is not None:
        return False
    first = None if made.first_mask is None else clean(made.first_mask)
    return first is None or bool(shapely.equals(first, shape))


def _digest(shape: Shape, class_name: str | None, role: Use) -> str:
    text = f"{role}:{class_name!r}:".encode()
    return hashlib.sha256(text + shapely.to_wkb(shapely.normalize(shape))).hexdigest()[:16]
