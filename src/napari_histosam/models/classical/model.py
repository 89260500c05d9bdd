"""The model of decoder `classical`: works at once, without weights, mostly for nuclei."""

from __future__ import annotations

import functools
import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.models.classical import regions
from napari_histosam.models.classical.box import box_answers
from napari_histosam.models.classical.click import Region, regions_at
from napari_histosam.models.classical.nuclei import find_nuclei
from napari_histosam.models.classical.refine import edited, pixel, snapped
from napari_histosam.models.classical.stain import coarse_haematoxylin, haematoxylin
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.automatic import Detections
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import ObjectPrompts

    Mask = NDArray[np.bool_]
    Answers = list[tuple[Mask, float]]
    Points = list[tuple[float, float]]

# Raise it when answers change, so that cached views and provenance tell the versions apart.
_VERSION = "classical-1"
_CANDIDATES = 3
_TRIED = 6
# Answers that overlap more are not worth a key press to see.
_DISTINCT = 0.8
# More clicks than this are a scribble, and so many of its points are looked at.
_SCRIBBLE = 8
_DISC_SCORE = 0.05
# What lies under a scribble but is rated below this share of its best part is ground between.
_CLEAR = 0.5
# A region that fits all clicks but is rated well below the best one is hardly what is meant:
# mending the best one gives better masks (measured on nuclei and glands, 2 to 5 clicks).
_LIKELY = 0.85
_MASK_SCORE = 0.8


class ClassicalModel:
    """Stain separation and thresholds as a `PromptModel` and an `AutomaticModel`.

    Scores are rough estimates of IoU by rules of thumb. There are no logits.

    Parameters
    ----------
    card : ModelCard
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.weights_hash = hashlib.sha256(_VERSION.encode()).hexdigest()
        self.device = "cpu"

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Separate the stain of one window.

        Parameters
        ----------
        images : sequence of one (height, width, 3) uint8 RGB array

        Returns
        -------
        Embedding
            ``"stain"`` (height, width) and ``"coarse"`` (a quarter of the sides), both uint8
            haematoxylin density.
        """
        (image,) = images
        check_image(image)
        arrays = {"stain": haematoxylin(image), "coarse": coarse_haematoxylin(image)[0]}
        return Embedding(arrays, (image.shape[1], image.shape[0]))

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects, each on its own.

        A positive click is always inside its masks: where nothing is found, they are a small
        disc with a score near 0. Logits of prompts are not used.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
        multimask : bool
            Offer up to three distinct masks.
        """
        stain, coarse = embedding.arrays["stain"], embedding.arrays["coarse"]
        out = []
        for prompts in check_prompts(objects, embedding.size):
            answers = _answers(stain, coarse, prompts)
            chosen = _distinct(answers, _CANDIDATES if multimask else 1)
            out.append(
                Candidates(
                    np.stack([mask for mask, _ in chosen]),
                    np.array([score for _, score in chosen], np.float64),
                    np.zeros((len(chosen), 0, 0), np.float32),
                )
            )
        return out

    def find(self, image: NDArray[np.uint8]) -> Detections:
        """Find all nuclei of a window; see `find_nuclei`."""
        check_image(image)
        return find_nuclei(image)


def _answers(
    stain: NDArray[np.uint8], coarse: NDArray[np.uint8], prompts: ObjectPrompts
) -> Answers:
    positives, negatives = _clicks(prompts, stain.shape)
    if prompts.mask is not None:
        base: Answers = [(prompts.mask, _MASK_SCORE)]
        if not positives and not negatives:
            base.insert(0, (snapped(prompts.mask, stain), _MASK_SCORE))
    elif prompts.box is not None:
        base = box_answers(stain, prompts.box)
    elif positives:
        base = _under_clicks(stain, coarse, positives, negatives)
    else:
        base = [(np.zeros(stain.shape, bool), 0.0)]
    if not positives and not negatives:
        return base
    box = prompts.box if prompts.mask is None else None

    @functools.cache
    def under(click: tuple[float, float]) -> Mask | None:
        if len(positives) > _SCRIBBLE:
            return None
        found = _explaining(_regions(stain, coarse, click), [click], negatives)
        return found[0].paste(stain.shape) if found else None

    return [
        (_finish(edited(mask, positives, negatives, under), positives, box), score)
        for mask, score in base
    ]


def _under_clicks(
    stain: NDArray[np.uint8], coarse: NDArray[np.uint8], positives: Points, negatives: Points
) -> Answers:
    found = _regions(stain, coarse, positives[0])
    likely = [r for r in found if r.score >= _LIKELY * found[0].score]
    fitting = _explaining(likely, positives, negatives)
    if not fitting and len(positives) > _SCRIBBLE:
        # No region holds the whole scribble: take what lies under its parts together.
        parts = []
        for click in positives[:: math.ceil(len(positives) / _SCRIBBLE)]:
            parts += _explaining(_regions(stain, coarse, click), [click], negatives)[:1]
        least = _CLEAR * max((part.score for part in parts), default=0.0)
        parts = [part for part in parts if part.score >= least]
        mask = np.zeros(stain.shape, bool)
        for part in parts:
            mask |= part.paste(stain.shape)
        scores = [part.score for part in parts]
        return [(mask, float(np.mean(scores)) if scores else _DISC_SCORE)]
    # One region that explains all clicks beats one that must be mended.
    chosen = fitting or found
    if not chosen:
        return [(np.zeros(stain.shape, bool), _DISC_SCORE)]
    return [(region.paste(stain.shape), region.score) for region in chosen[:_TRIED]]


def _finish(mask: Mask, positives: Points, box: NDArray[np.float64] | None) -> Mask:
    if box is None:
        return mask
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    inside = (columns + 0.5 >= box[0]) & (columns + 0.5 <= box[2])
    mask = mask & inside & (rows + 0.5 >= box[1]) & (rows + 0.5 <= box[3])
    for click in positives:  # a click outside its own box still counts
        mask[pixel(click)] = True
    return mask


def _regions(
    stain: NDArray[np.uint8], coarse: NDArray[np.uint8], click: tuple[float, float]
) -> list[Region]:
    factor = max(round(stain.shape[0] / coarse.shape[0]), 1)
    found = [*regions_at(stain, *click), *regions_at(coarse, *click, factor)]
    return sorted(found, key=lambda region: -region.score)


def _explaining(found: list[Region], positives: Points, negatives: Points) -> list[Region]:
    return [
        region
        for region in found
        if all(region.holds(*p) for p in positives) and not any(region.holds(*p) for p in negatives)
    ]


def _clicks(prompts: ObjectPrompts, shape: tuple[int, ...]) -> tuple[Points, Points]:
    if prompts.points is None or prompts.labels is None:
        return [], []
    # Clicks outside count at the nearest pixel: an object may reach over the window's border.
    inside = np.clip(prompts.points, 0, np.array([shape[1], shape[0]]) - 1e-6)
    kinds = [[(float(x), float(y)) for x, y in inside[prompts.labels == k]] for k in (1, 0)]
    return kinds[0], kinds[1]


def _distinct(answers: Answers, most: int) -> Answers:
    chosen: Answers = []
    for mask, score in sorted(answers, key=lambda answer: -answer[1]):
        if all(regions.overlap(mask, other) < _DISTINCT for other, _ in chosen):
            chosen.append((mask, score))
        if len(chosen) == most:
            break
    return chosen
