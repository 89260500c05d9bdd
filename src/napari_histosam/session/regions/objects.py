"""Turns areas into objects, and keeps those that prompts point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.records import Provenance, SlideObject, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.records import Prompt
    from napari_histosam.session.regions.areas import Area, Areas
    from napari_histosam.session.regions.region_map import RegionMap


def objects_of(
    found: Areas, source: RegionMap, *, author: str = "", class_name: str | None = None
) -> list[SlideObject]:
    """Return an object of each area, with its origin; the score is its mean probability.

    Parameters
    ----------
    found : Areas
    source : RegionMap
        Where they come from.
    author : str
    class_name : str, optional
        The class of all; None leaves it to the model.
    """
    made = now()
    return [
        SlideObject(
            geometry=area.geometry,
            class_name=class_name or area.class_name,
            object_type="annotation",
            created=made,
            modified=made,
            provenance=Provenance(
                source="automatic",
                author=author,
                model=source.about["model"],
                weights_hash=source.about["weights_hash"],
                score=area.mean,
            ),
        )
        for area in found.areas
    ]


def picked(found: Sequence[Area], prompts: Sequence[Prompt]) -> list[Area]:
    """Keep the areas that prompts touch, and drop those that negative ones do.

    Parameters
    ----------
    found : sequence of Area
    prompts : sequence of Prompt
        Level-0 px. With points or boxes among them, only what these touch is kept; with negative
        ones only, all but what these touch; without any, all.
    """
    if not found or not prompts:
        return list(found)
    tree = shapely.STRtree([area.geometry for area in found])

    def touched(wanted: Sequence[Prompt]) -> np.ndarray:
        shapes = [prompt.geometry for prompt in wanted]
        hit = np.zeros(len(found), bool)
        hit[np.asarray(tree.query(shapes, predicate="intersects"), np.intp)[1]] = True
        return hit

    negative = [prompt for prompt in prompts if prompt.role == "negative"]
    positive = [prompt for prompt in prompts if prompt.role != "negative"]
    keep = touched(positive) if positive else np.ones(len(found), bool)
    if negative:
        keep &= ~touched(negative)
    return [area for area, stays in zip(found, keep.tolist(), strict=True) if stays]
