"""Which object each box is to learn: by IoU, as mmdetection assigns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torchvision.ops import box_iou

if TYPE_CHECKING:
    from torch import Tensor

IGNORED, NEGATIVE = -1, 0


@dataclass(frozen=True)
class Limits:
    """What decides how boxes are assigned.

    Parameters
    ----------
    positive : float
        A box belongs to the object that it overlaps best from this IoU on.
    negative : float
        A box whose best IoU is below is background; one in between teaches nothing.
    least : float
        The best box of an object belongs to it in any case, from this IoU on.
    """

    positive: float
    negative: float
    least: float


ANCHORS = Limits(0.7, 0.3, 0.3)
PROPOSALS = Limits(0.5, 0.5, 0.5)


def assigned(boxes: Tensor, truth: Tensor, limits: Limits) -> Tensor:
    """Return for each box (n, 4) the number of its object from 1 on, 0 or -1 (`IGNORED`).

    Parameters
    ----------
    boxes : (n, 4) tensor
    truth : (k, 4) tensor
        The objects' boxes; none makes all boxes background.
    limits : Limits
    """
    out = boxes.new_full((len(boxes),), IGNORED, dtype=torch.long)
    if not len(truth):
        return out.zero_()
    overlaps = box_iou(truth, boxes)
    best, which = overlaps.max(0)
    out[best < limits.negative] = NEGATIVE
    out = torch.where(best >= limits.positive, which + 1, out)
    tops = overlaps.max(1).values
    for number, top in enumerate(tops.tolist()):
        if top >= limits.least:
            out[overlaps[number] == tops[number]] = number + 1
    return out


def sampled(assignment: Tensor, count: int, positives: int) -> tuple[Tensor, Tensor]:
    """Draw rows to learn from, by torch's global generator.

    Parameters
    ----------
    assignment : (n,) tensor
        From `assigned`.
    count : int
        Rows in all.
    positives : int
        Those that belong to objects, at most; background fills up.

    Returns
    -------
    positive, negative : tensors of int
    """
    for_objects = _some((assignment > 0).nonzero()[:, 0], positives)
    background = (assignment == NEGATIVE).nonzero()[:, 0]
    return for_objects, _some(background, count - len(for_objects))


def _some(rows: Tensor, most: int) -> Tensor:
    if len(rows) <= most:
        return rows
    # Drawn on the CPU, so that a seed gives the same on all devices.
    return rows[torch.randperm(len(rows))[:most].to(rows.device)]
