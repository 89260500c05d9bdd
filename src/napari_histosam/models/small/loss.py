"""The loss of the bundled network: masks by focal and Dice loss, scores by their error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_histosam.models.losses import PerObject, dice, focal, ious

if TYPE_CHECKING:
    from torch import Tensor

_FOCAL, _SCORE, _CLEAR_OTHERS, _BOTH_OTHERS = 0.5, 0.5, 0.15, 0.05


def per_object(
    logits: Tensor,
    scores: Tensor,
    truth: Tensor,
    areas: Tensor,
    ambiguous: Tensor,
) -> PerObject:
    """Return the losses of each object.

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
    per_mask = dice(full, target) + _FOCAL * _focal(full, target)
    others = per_mask[:, 1:]
    doubtful = others.amin(1) + _BOTH_OTHERS * others.sum(1)
    rest = torch.where(ambiguous, doubtful, _CLEAR_OTHERS * others.sum(1))
    mask_loss = per_mask[:, 0] + rest
    with torch.no_grad():
        iou = ious(full > 0, truth, areas)
        error = (scores.float().sigmoid() - iou).abs().mean(1)
    score_loss = functional.binary_cross_entropy_with_logits(scores.float(), iou, reduction="none")
    total = mask_loss + _SCORE * score_loss.mean(1)
    return PerObject(total, mask_loss.detach(), error, iou[:, 0])


def _focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss, normalised so that easy pixels weigh less."""
    # By the object's size and not the crop's, so that small objects count as large ones do.
    return focal(logits, target).sum((2, 3)) / (target.sum((2, 3)) + 16) * 2
