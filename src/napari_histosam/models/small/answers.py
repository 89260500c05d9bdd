"""From the network's logits in a crop to masks of the window that keep to the prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.geometry.components import keep_under

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.small.octaves import Crop

# Logit of what lies outside the crop.
NOWHERE = -12.0
# Answers that overlap more are not worth a key press to see.
_DISTINCT = 0.8
# How far a mask may reach beyond its box, as a share of the box's sides.
_BEYOND_BOX = 0.05
# Net px that a click changes at least where the network does not follow it, and the share of the
# object's size that it changes at most.
_DISC, _DISC_SHARE = 2.5, 0.15

# Where a size is expected: the spread of sizes (of the logarithm of the side) that is taken as
# usual. An answer of quite another size has no chance, however sure the network is of it: whoever
# marks nuclei has no use for the gland round about.
_USUAL_SPREAD = 0.5


@dataclass(frozen=True)
class Answer:
    """One mask that the network gave.

    Parameters
    ----------
    crop : Crop
    logits : (h / 2, w / 2) float32 array
        Of the crop, at half its resolution.
    score : float
        Predicted IoU.
    """

    crop: Crop
    logits: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Placed:
    """An answer in the window: mask, low-resolution logits (half the window's), score."""

    mask: NDArray[np.bool_]
    logits: NDArray[np.float32]
    score: float


def answer(crop: Crop, logits: NDArray[np.float32], score: float, prompts: ObjectPrompts) -> Answer:
    """Return an answer; one of an unlikely size scores less where a size is expected.

    Parameters
    ----------
    crop : Crop
    logits : (h / 2, w / 2) float32 array
    score : float
        As the network predicts it.
    prompts : ObjectPrompts
        May expect a size.
    """
    area = 4 * crop.factor**2 * int(np.count_nonzero(logits > 0))
    if prompts.side is not None:
        off = math.log(math.sqrt(max(area, 1)) / prompts.side) / _USUAL_SPREAD
        score *= math.exp(-(off**2) / 2)
    return Answer(crop, logits, score)


def placed(one: Answer, prompts: ObjectPrompts, size: tuple[int, int]) -> Placed:
    """Return an answer as a mask of the window.

    Only components under positive clicks stay; a negative click is never inside, a positive one
    that corrects always is; with a box, nothing reaches far beyond it.

    Parameters
    ----------
    one : Answer
    prompts : ObjectPrompts
        Window px.
    size : tuple of int
        Width and height of the window in px.
    """
    crop, factor = one.crop, one.crop.factor
    shape = (crop.height * factor, crop.width * factor)
    full = cv2.resize(one.logits, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    corner = np.array([crop.left, crop.top]) * factor
    part = _honest(full > 0, prompts, corner, factor)
    mask = np.zeros((size[1], size[0]), np.bool_)
    height, width = mask[corner[1] : corner[1] + shape[0], corner[0] : corner[0] + shape[1]].shape
    mask[corner[1] : corner[1] + height, corner[0] : corner[0] + width] = part[:height, :width]
    return Placed(mask, _low(one, part, size), one.score)


def distinct(
    answers: list[Answer], most: int, prompts: ObjectPrompts, size: tuple[int, int]
) -> list[Placed]:
    """Return up to ``most`` answers that differ, the best by score first; at least one."""
    chosen: list[Placed] = []
    for one in sorted(answers, key=lambda candidate: -candidate.score):
        found = placed(one, prompts, size)
        if chosen and not found.mask.any():
            continue
        if all(_overlap(found.mask, other.mask) < _DISTINCT for other in chosen):
            chosen.append(found)
        if len(chosen) == most:
            break
    return chosen


def _honest(
    mask: NDArray[np.bool_],
    prompts: ObjectPrompts,
    corner: NDArray[np.int64],
    factor: int,
) -> NDArray[np.bool_]:
    points = np.zeros((0, 2)) if prompts.points is None else prompts.points - corner
    labels = np.zeros(0, np.int64) if prompts.labels is None else prompts.labels
    inside = ((points >= 0) & (points < (mask.shape[1], mask.shape[0]))).all(1)
    points, labels = points[inside], labels[inside]
    positive, negative = points[labels == 1], points[labels == 0]
    drawn = mask.astype(np.uint8)
    radius = factor * max(_DISC, _DISC_SHARE * math.sqrt(float(mask.sum())) / factor)
    corrects = len(labels) > 1 or prompts.box is not None or prompts.mask is not None
    if corrects:
        for own, others, value in ((positive, negative, 1), (negative, positive, 0)):
            for x, y in own:
                if drawn[int(y), int(x)] != value:
                    reach = min([radius, *(np.hypot(*(others - (x, y)).T) / 2)])
                    _disc(drawn, x, y, reach, value)
    out = drawn.astype(bool)
    if len(positive) and prompts.mask is None:
        out = keep_under(out, positive)
    if prompts.box is not None:
        out &= _near(prompts.box, corner, mask.shape)
    return out


def _disc(drawn: NDArray[np.uint8], x: float, y: float, radius: float, value: int) -> None:
    rows, columns = np.ogrid[: drawn.shape[0], : drawn.shape[1]]
    near = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= max(radius, 0.8) ** 2
    drawn[near] = value
    drawn[int(y), int(x)] = value


def _near(
    box: NDArray[np.float64], corner: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    reach = np.maximum(_BEYOND_BOX * (box[2:] - box[:2]), 0.5)
    low, high = box[:2] - reach - corner, box[2:] + reach - corner
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    across = (columns + 0.5 >= low[0]) & (columns + 0.5 <= high[0])
    return across & (rows + 0.5 >= low[1]) & (rows + 0.5 <= high[1])


def _low(one: Answer, part: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return logits at half the window's resolution, made to agree with the mask."""
    crop, factor = one.crop, one.crop.factor
    height, width = crop.height * factor // 2, crop.width * factor // 2
    logits = cv2.resize(one.logits, (width, height), interpolation=cv2.INTER_LINEAR)
    share = cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    logits = np.where(share > 0.5, np.maximum(logits, 0.2), np.minimum(logits, -0.2))
    low = np.full((math.ceil(size[1] / 2), math.ceil(size[0] / 2)), NOWHERE, np.float32)
    top, left = crop.top * factor // 2, crop.left * factor // 2
    place = low[top : top + height, left : left + width]
    place[:] = logits[: place.shape[0], : place.shape[1]]
    return low


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
