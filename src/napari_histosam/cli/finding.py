"""Has a model find all objects or areas of labelled images by itself, and compares them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.automatic import AutomaticModel, RegionModel
    from napari_histosam.train.evaluation.instances import ImageFigures
    from napari_histosam.train.labelled import Entry


def find_all(
    found: Sequence[Entry], model: AutomaticModel
) -> tuple[list[ImageFigures], list[float]]:
    """Return the figures of each image, and the seconds that it took.

    Every image is laid out in tiles and put together again as a slide is, glass included.
    """
    from napari_histosam.train.evaluation.instances import image_figures

    figures, seconds = [], []
    for number, entry in enumerate(found, 1):
        image, truth = entry.read()
        start = time.perf_counter()
        labels, scores = _found(entry, image, model)
        seconds.append(time.perf_counter() - start)
        figures.append(image_figures(truth, labels, scores))
        _tell(model.card.name, number, len(found))
    return figures, seconds


def tell_areas(found: Sequence[Entry], model: RegionModel) -> dict[str, Any]:
    """Return what `napari_histosam.train.evaluation.figures.areal` makes of images."""
    from napari_histosam.train.area_maps import area_map
    from napari_histosam.train.evaluation.areas import AreaFigures
    from napari_histosam.train.evaluation.figures import areal
    from napari_histosam.train.evaluation.laid_out import probabilities_of

    classes = model.card.classes
    named = {name for entry in found for name in entry.classes.values()}
    if len(classes) > 1 and named.isdisjoint(classes):
        raise InputError(
            f"The masks name {', '.join(sorted(named)) or 'no class'}, and {model.card.name} tells "
            f"{', '.join(classes)} apart: call the classes in index.json by the model's names."
        )
    parts: dict[str, AreaFigures] = {}
    seconds = []
    for number, entry in enumerate(found, 1):
        image, areas = area_map(entry, classes)
        start = time.perf_counter()
        likely = probabilities_of(image, entry.mpp, model)
        seconds.append(time.perf_counter() - start)
        part = parts.setdefault(entry.source, AreaFigures(len(classes)))
        part.add(entry.name, likely, areas)
        _tell(model.card.name, number, len(found))
    return areal(AreaFigures.of(list(parts.values())), classes, parts, seconds)


def _tell(name: str, number: int, count: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{name} by itself: image {number} of {count} ")
        sys.stderr.write("\n" * (number == count))


def _found(
    entry: Entry, image: NDArray[np.uint8], model: AutomaticModel
) -> tuple[NDArray[np.int32], list[float]]:
    """Return what was found as a label map, the best score on top, and the scores by number."""
    from napari_histosam.geometry.scan import fill
    from napari_histosam.session.automate import AutomateRequest, automate, plan_tiles
    from napari_histosam.slide import open_array
    from napari_histosam.store import ObjectStore

    mpp = None if entry.mpp is None else (entry.mpp, entry.mpp)
    with open_array([image], mpp, entry.name) as slide, ObjectStore.open(None) as store:
        request = AutomateRequest(plan_tiles(slide, model.card), skip_glass=False)
        automate(slide, store, model, request)
        objects = sorted(store.iterate(), key=lambda one: one.provenance.score or 0.0)
    labels = np.zeros(image.shape[:2], np.int32)
    fill(labels, [one.geometry for one in objects], range(1, len(objects) + 1))
    return labels, [one.provenance.score or 0.0 for one in objects]
