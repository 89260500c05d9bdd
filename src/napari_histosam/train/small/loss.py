"""The loss of the bundled network: masks by focal and Dice loss, scores by their error."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

_FOCAL, _SCORE, _CLEAR_OTHERS, _BOTH_OTHERS = 0.5, 0.5, 0.15, 0.05


class Losses(NamedTuple):
    """What a step is judged by.

    ``total`` is to be minimised; the others are for the log: the masks' part, the mean error of the
    predicted IoU, and the IoU of the best guess.
    """

    total: Tensor
    mask: Tensor
    score: Tensor
    iou: Tensor


def losses(
    logits: Tensor, scores: Tensor, truth: Tensor, areas: Tensor, ambiguous: Tensor
) -> Losses:
    """Return the losses of one batch.

    The first mask answers every prompt. Of the other two, only the better one is taught where
    all that is known is one click (as SAM does, Kirillov et al. 2023, arXiv 2304.02643).

    Parameters
    ----------
    logits : (n, 3, h / 2, w / 2) tensor
    scores : (n, 3) tensor
        Logits of predicted IoU.
    truth : (n, h, w) bool tensor
    areas : (n,) tensor
        The objects' whole areas, which may reach beyond the crop.
    ambiguous : (n,) bool tensor
    """
    full = functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear")
    target = truth.float()[:, None].expand_as(full)
    per_mask = _dice(full, target) + _FOCAL * _focal(full, target)
    others = per_mask[:, 1:]
    doubtful = others.amin(1) + _BOTH_OTHERS * others.sum(1)
    rest = torch.where(ambiguous, doubtful, _CLEAR_OTHERS * others.sum(1))
    mask_loss = (per_mask[:, 0] + rest).mean()
    with torch.no_grad():
        iou = ious(full > 0, truth, areas)
        error = (scores.float().sigmoid() - iou).abs().mean()
    score_loss = functional.binary_cross_entropy_with_logits(scores.float(), iou)
    total = mask_loss + _SCORE * score_loss
    return Losses(total, mask_loss.detach(), error, iou[:, 0].mean())


def ious(masks: Tensor, truth: Tensor, areas: Tensor) -> Tensor:
    """Return the IoU (n, m) of masks (n, m, h, w) with objects that may reach beyond the crop."""
    masks, inside = masks.flatten(2).float(), truth.flatten(1).float()
    common = torch.einsum("nmp,np->nm", masks, inside)
    return common / (masks.sum(2) + areas[:, None] - common).clamp(min=1.0)


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    probable = logits.sigmoid()
    common = (probable * target).sum((2, 3))
    return 1 - (2 * common + 1) / (probable.sum((2, 3)) + target.sum((2, 3)) + 1)


def _focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002), normalised so that easy pixels weigh less."""
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = (1 - torch.exp(-plain)) ** 2
    # By the object's size and not the crop's, so that small objects count as large ones do.
    return (weight * plain).sum((2, 3)) / (target.sum((2, 3)) + 16) * 2
