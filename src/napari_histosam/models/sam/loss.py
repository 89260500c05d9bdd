"""The loss that SAM was trained with: focal and Dice for masks, squared error for scores.

Kirillov et al. 2023, arXiv 2304.02643, appendix A: 20 to 1 between focal and Dice loss, the least
of the three masks' losses where a prompt is ambiguous, mean squared error of the predicted IoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from napari_histosam.models.losses import PerObject, dice, focal, ious

if TYPE_CHECKING:
    from torch import Tensor


class Weights(NamedTuple):
    """How the terms are weighed.

    Parameters
    ----------
    focal : float
        Of the focal loss where Dice has 1.
    alpha : float, optional
        Of px inside an object in the focal loss; None: as much as of those outside.
    """

    focal: float = 20.0
    alpha: float | None = 0.25


PUBLISHED = Weights()


def per_object(
    logits: Tensor,
    scores: Tensor,
    truth: Tensor,
    areas: Tensor,
    ambiguous: Tensor,
    weights: Weights = PUBLISHED,
) -> PerObject:
    """Return the losses of each object.

    Parameters
    ----------
    logits : (n, 4, h / 2, w / 2) tensor
        Of SAM's tokens: the first answers clear prompts, the others ambiguous ones.
    scores : (n, 4) tensor
        Predicted IoUs.
    truth : (n, h, w) bool tensor
    areas : (n,) tensor
        The objects' whole areas.
    ambiguous : (n,) bool tensor
    weights : Weights
        SAM's own, which keep masks empty for long where a decoder begins from nothing.
    """
    n = len(logits)
    found = [logits.new_zeros(n, dtype=torch.float32) for _ in PerObject._fields]
    for doubtful in (False, True):
        rows = (ambiguous == doubtful).nonzero()[:, 0]
        if len(rows):
            # Only the tokens that are taught: the others would cost most of the time.
            tokens = slice(1, None) if doubtful else slice(0, 1)
            part = _tokens(
                logits[rows, tokens], scores[rows, tokens], truth[rows], areas[rows], weights
            )
            found = [whole.index_copy(0, rows, p) for whole, p in zip(found, part, strict=True)]
    return PerObject(*found)


def _tokens(
    logits: Tensor, scores: Tensor, truth: Tensor, areas: Tensor, weights: Weights
) -> PerObject:
    """Return the losses where the best of the tokens given is taught."""
    full = functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear")
    target = truth.float()[:, None].expand_as(full)
    sharp = weights.focal * focal(full, target, weights.alpha).mean((2, 3))
    mask_loss = (sharp + dice(full, target)).amin(1)
    with torch.no_grad():
        iou = ious(full > 0, truth, areas)
        error = (scores.float() - iou).abs().mean(1)
    score_loss = ((scores.float() - iou) ** 2).mean(1)
    return PerObject(mask_loss + score_loss, mask_loss.detach(), error, iou.amax(1))
