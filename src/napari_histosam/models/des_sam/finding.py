"""From an embedding to boxes, scores and classes: DES-SAM's detector in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torchvision.ops import nms

from napari_histosam.models.des_sam.detector import clipped

if TYPE_CHECKING:
    from torch import Tensor

    from napari_histosam.models.des_sam.network import DesSam

_LEAST = 1e-2


@dataclass(frozen=True)
class Settings:
    """What decides which of the candidates are objects.

    Parameters
    ----------
    score : float
        Least probability of the class; upstream: 0.55, and 0.05 for crowded or foreign images.
    proposal_overlap : float
        IoU above which the weaker of two proposals of one level goes; upstream: 0.7, or 0.5 for
        clustered cells.
    overlap : float
        The same of objects; upstream: 0.5, or 0.2 for clustered cells.
    most : int
        Objects of a window; upstream cuts at 120, which crowded tissue exceeds.
    mask_logit : float
        A mask is where the logit is above it; upstream: 0.5, where SAM has 0.
    token : bool
        Whether the learned token takes part.
    """

    score: float = 0.55
    proposal_overlap: float = 0.7
    overlap: float = 0.5
    most: int = 500
    mask_logit: float = 0.5
    token: bool = True


@dataclass(frozen=True)
class Found:
    """The objects of one window, the most certain first.

    Parameters
    ----------
    boxes : (n, 4) tensor
        Px of the square.
    scores : (n,) tensor
    kinds : (n,) tensor of int
    cut : bool
        Whether there were more than the settings allow.
    """

    boxes: Tensor
    scores: Tensor
    kinds: Tensor
    cut: bool = False


def detected(net: DesSam, embedding: Tensor, settings: Settings) -> Found:
    """Find the objects of a window (1, 256, 64, 64).

    With several classes an object has the likeliest one, and of two that overlap the weaker goes
    whatever their classes are.
    """
    return chosen(*candidates(net, embedding, settings), settings)


def candidates(net: DesSam, embedding: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return class logits (n, classes + 1) and refined boxes (n, 4) of all proposals."""
    levels = net.neck(embedding)
    boxes, _ = net.rpn.proposals(net.rpn.objectness(levels), settings.proposal_overlap)
    logits, shifts = net.box_head(levels, boxes)
    return logits, clipped(net.box_head.coder.decoded(shifts, boxes))


def chosen(logits: Tensor, boxes: Tensor, settings: Settings) -> Found:
    """Choose among refined boxes (n, 4) by their class logits (n, classes + 1)."""
    scores, kinds = logits.softmax(1)[:, :-1].max(1)
    large = (boxes[:, 2:] - boxes[:, :2]).min(1).values >= _LEAST
    rows = ((scores > settings.score) & large).nonzero()[:, 0]
    rows = rows[nms(boxes[rows], scores[rows], settings.overlap)]
    few = rows[: settings.most]
    return Found(boxes[few], scores[few], kinds[few], len(rows) > len(few))


def stability(logits: Tensor, at: float) -> Tensor:
    """Return how little masks (n, h, w) depend on the threshold: (n,), 0 for empty ones.

    The area at a logit of 1 above the threshold over that at 1 below it (Kirillov et al. 2023,
    arXiv 2304.02643, section 4).
    """
    inner, outer = ((logits > at + step).flatten(1).sum(1).double() for step in (1, -1))
    empty = ~(logits > at).flatten(1).any(1)
    return torch.where(empty, torch.zeros_like(inner), inner / outer.clamp(min=1))
