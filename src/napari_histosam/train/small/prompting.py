"""Simulates a user: first prompts for objects, then clicks where the answer is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.models.small.prompt_maps import gathered
from napari_histosam.train.simulate import (
    any_point,
    deepest_point,
    jittered,
    largest_error,
    tight_box,
)
from napari_histosam.train.small.warp import NEAREST, warped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.small.prompt_maps import PromptBatch

    Mask = NDArray[np.bool_]

CORRECTIONS = 4
"""The most clicks that follow the first prompt."""
CENTRED = 0.4
_HOW_MANY = (0.34, 0.24, 0.19, 0.14, 0.09)
# Share of prompts that are a click on glass, where there is some.
_ON_GLASS = 0.08
# A box whose longer side is more than this share of the crop gets a coarser scale in use.
_LONGEST_BOX = 0.82


@dataclass
class Asked:
    """The prompts of one object so far, in net px of its crop.

    Parameters
    ----------
    truth : (h, w) bool array
    points, labels : list
    box : (4,) float array or None
    previous : (h / 2, w / 2) float32 array or None
        Probability of the mask that the user sees.
    corrections : int
        How many clicks are to follow.
    """

    truth: Mask
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: NDArray[np.float64] | None = None
    previous: NDArray[np.float32] | None = None
    corrections: int = 0

    @property
    def ambiguous(self) -> bool:
        """Whether all that is known is one click."""
        return len(self.points) == 1 and self.box is None and self.previous is None


def first_prompts(
    truth: Mask, glass: Mask, rng: np.random.Generator, centred: float = CENTRED
) -> Asked:
    """Return what a user might give first for an object: clicks, a box, both, an older mask.

    Now and then it is a click on glass, where there is no object. ``centred`` is the share of
    clicks that lie in the object's middle and not anywhere in it.
    """
    box = tight_box(truth)
    if box is None or (rng.random() < _ON_GLASS and glass.mean() > 0.02):
        on = glass if glass.any() else ~truth
        return Asked(np.zeros_like(truth), [inner_point(on, rng, centred)], [1])
    asked = Asked(truth)
    asked.corrections = int(rng.choice(len(_HOW_MANY), p=_HOW_MANY))
    kind = rng.choice(5, p=(0.54, 0.30, 0.08, 0.04, 0.04))
    if kind in (1, 2) and max(box[2] - box[0], box[3] - box[1]) <= _LONGEST_BOX * len(truth):
        asked.box = jittered(box, float(rng.choice((0.02, 0.05, 0.1))), rng)
    if kind == 3:
        asked.previous = _spoilt(truth, rng)
    if asked.box is None or kind == 2:
        for _ in range(int(rng.integers(2, 6)) if kind == 4 else 1):
            asked.points.append(inner_point(truth, rng, centred))
            asked.labels.append(1)
    if kind == 3 and rng.random() < 0.5:
        asked.points, asked.labels = [], []
    return asked


def inner_point(
    mask: Mask, rng: np.random.Generator, centred: float = CENTRED
) -> tuple[float, float]:
    """Return a point inside a mask: the deepest one, near it, or anywhere."""
    if rng.random() < centred:
        x, y = deepest_point(mask)
        reach = 0.12 * math.sqrt(mask.sum())
        moved = x + rng.normal(0, reach), y + rng.normal(0, reach)
        inside = 0 <= moved[0] < mask.shape[1] and 0 <= moved[1] < mask.shape[0]
        return moved if inside and mask[int(moved[1]), int(moved[0])] else (x, y)
    x, y = any_point(mask, rng)
    return x + float(rng.uniform(-0.5, 0.5)), y + float(rng.uniform(-0.5, 0.5))


def correct(asked: Asked, shown: Mask, rng: np.random.Generator | None = None) -> bool:
    """Add a click in the largest error of what is shown; return whether there was one.

    Parameters
    ----------
    asked : Asked
    shown : (h, w) bool array
    rng : numpy Generator, optional
        Given, the click is somewhere in the error; else at its deepest point.
    """
    found = largest_error(asked.truth, shown)
    if found is None:
        return False
    part, missing = found
    asked.points.append(deepest_point(part) if rng is None else inner_point(part, rng))
    asked.labels.append(int(missing))
    return True


def batch_of(asked: list[Asked], device: str = "cpu") -> PromptBatch:
    """Return the prompts of objects, whose crops are of one size, as tensors."""
    height, width = asked[0].truth.shape
    return gathered(asked, (height, width), device)


def _spoilt(truth: Mask, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a mask as an earlier and worse answer might be: moved, grown or cut, at half size."""
    mask = truth.astype(np.uint8)
    reach = max(1, round(0.15 * math.sqrt(mask.sum())))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    kind = rng.integers(4)
    if kind == 0:
        mask = np.asarray(cv2.dilate(mask, kernel), np.uint8)
    elif kind == 1:
        smaller = np.asarray(cv2.erode(mask, kernel), np.uint8)
        mask = smaller if smaller.any() else mask
    dx, dy = rng.integers(-reach, reach + 1, 2)
    move = np.array([[1.0, 0, dx], [0, 1, dy]])
    mask = warped(mask, move, len(mask), NEAREST)  # nothing comes in again on the other side
    if kind == 3:
        x, y = inner_point(truth, rng)
        radius = max(2, round(0.35 * math.sqrt(truth.sum())))
        value = int(rng.integers(2))
        cv2.circle(mask, (int(x), int(y)), radius, value, -1)
    height, width = mask.shape
    half = cv2.resize(
        mask.astype(np.float32), (width // 2, height // 2), interpolation=cv2.INTER_AREA
    )
    return np.asarray(half, np.float32)
