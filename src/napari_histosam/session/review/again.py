"""Asks the model again for objects that are there: where it differs, one of the two is wrong."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.records import Prompt
from napari_histosam.session.fitting import fitted
from napari_histosam.session.previews import Request
from napari_histosam.session.review.doubts import iou
from napari_histosam.session.review.queue import Doubt

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from napari_histosam.session.answer import Answerer
    from napari_histosam.session.review.candidates import Candidates
    from napari_histosam.slide import Slide
    from napari_histosam.store import ObjectStore

    Aside = Callable[[Callable[[Answerer], Any]], Future[Any]]

# Overlap (IoU) of outline and new answer from which on they count as the same.
SAME = 0.8
# A model that has stopped answering must not hold the job for ever.
_PATIENCE_S = 120.0


def ask_again(
    slide: Slide,
    store: ObjectStore,
    of: Candidates,
    chosen: NDArray[np.int64],
    aside: Aside,
    step: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Click into each chosen object at its deepest point and compare the answers with it.

    Parameters
    ----------
    slide : Slide
    store : ObjectStore
    of : Candidates
    chosen : (m,) int array
        Indices of the objects.
    aside : callable
        `Session.aside`: gives the model between the user's own prompts.
    step : callable of int
        Told after each object how many were asked; may raise to stop.

    Returns
    -------
    agreement : (n,) float array
        IoU of the model's answer and the outline; NaN where it was not asked.
    spread : (n,) float array
        Mean of 1 - IoU of the model's other masks with its first; 0 where it offers one only.
    """
    agreement, spread = np.full(len(of), np.nan), np.full(len(of), np.nan)
    # Neighbours one after the other, so that they share an encoding.
    sides = np.sqrt(of.areas[chosen])
    cells = np.floor(of.bounds[chosen, :2] / np.maximum(sides[:, None] * 8, 1))
    for done, at in enumerate(chosen[np.lexsort((cells[:, 0], cells[:, 1]))].tolist(), 1):
        rows = store.review_outlines([int(of.numbers[at])])
        step(done)
        if not rows:
            continue
        shape = shapely.from_wkb(rows[0][1])
        prompt = Prompt(deepest(shape), "positive")
        side = math.sqrt(of.areas[at])

        def work(
            answerer: Answerer, prompt: Prompt = prompt, shape: Any = shape, side: float = side
        ) -> tuple[float, float] | None:
            return _compare(slide, answerer, prompt, shape, side)

        try:
            found = aside(work).result(_PATIENCE_S)
        except CancelledError as gone:
            raise Cancelled("The slide was closed while its objects were sorted.") from gone
        except TimeoutError as late:
            raise HistosamError(
                "The model gave no answer for two minutes; sort without asking it, or choose "
                "another model."
            ) from late
        if found is not None:
            agreement[at], spread[at] = found
    return agreement, spread


def disagreement(agreement: NDArray[np.float64], spread: NDArray[np.float64]) -> Doubt:
    """Return the list of objects that the model, asked again, sees otherwise.

    Its order is by the mean of 1 - agreement and the spread.
    """

    def words(i: int) -> str:
        return f"asked again, the model overlaps it by only {agreement[i]:.0%}"

    with np.errstate(invalid="ignore"):
        values = np.where(agreement < SAME, (1 - agreement + spread) / 2, np.nan)
    return Doubt("asked again", values, words)


def deepest(shape: Any) -> shapely.Point:
    """Return the point of a (multi)polygon that lies deepest inside it."""
    parts = [p for p in shapely.get_parts(shapely.make_valid(shape)).ravel() if p.area > 0]
    largest = max(parts, key=lambda p: p.area) if parts else shape
    if largest.geom_type != "Polygon":
        return shapely.point_on_surface(largest)
    left, top, right, bottom = largest.bounds
    fine = max(min(right - left, bottom - top) / 50, 1e-3)
    radius = shapely.maximum_inscribed_circle(largest, tolerance=fine)
    return shapely.Point(radius.coords[0])


def _compare(
    slide: Slide, answerer: Answerer, prompt: Prompt, shape: Any, side: float
) -> tuple[float, float] | None:
    """Return agreement and spread for one object; None if it cannot be asked for."""
    try:
        prompts = tuple(fitted([prompt], (slide.width, slide.height), answerer.model.card))
    except InputError:
        return None  # outside the slide
    preview = answerer.answer(Request(0, {"1": prompts}, expected_side=side))
    if preview is None:
        return None
    shown = preview.objects["1"]
    if shown.geometry is None:
        return 0.0, 0.0
    size = (slide.width, slide.height)
    others = [
        shown.candidates.outline(i, shown.window, prompts, size)
        for i in range(1, len(shown.candidates))
    ]
    fits = _one_iou(shown.geometry, shape)
    apart = [1.0 if other is None else 1 - _one_iou(shown.geometry, other) for other in others]
    return fits, float(np.mean(apart)) if apart else 0.0


def _one_iou(a: Any, b: Any) -> float:
    pair = [np.array([shapely.make_valid(shape)], object) for shape in (a, b)]
    return float(iou(*pair)[0])
