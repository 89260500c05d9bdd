"""The loss that SAM was trained with: focal and Dice for masks, squared error for scores.

Kirillov et al. 2023, arXiv 2304.02643, appendix A: 20 to 1 between focal and Dice loss, the least
of the three masks' losses where a prompt is ambiguous, mean squared error of the predicted IoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_histosam.models.losses import PerObject, dice, focal, ious

if TYPE_CHECKING:
    from torch import Tensor

_FOCAL, _ALPHA = 20.0, 0.25


def per_object(
    logits: Tensor,
    scores: Tensor,
    truth: Tensor,
    areas: Tensor,
    ambiguous: Tensor,
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
    """
    n = len(logits)
    found = [logits.new_zeros(n, dtype=torch.float32) for _ in PerObject._fields]
    for doubtful in (False, True):
        rows = (ambiguous == doubtful).nonzero()[:, 0]
        if len(rows):
            # Only the tokens that are taught: the others would cost most of the time.
            tokens = slice(1, None) if doubtful else slice(0, 1)
            part = _tokens(logits[rows, tokens], scores[rows, tokens], truth[rows], areas[rows])
            found = [whole.index_copy(0, rows, p) for whole, p in zip(found, part, strict=True)]
    return PerObject(*found)


def _tokens(logits: Tensor, scores: Tensor, truth: Tensor, areas: Tensor) -> PerObject:
    """Return the losses where the best of the tokens given is taught."""
    full = functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear")
    target = truth.float()[:, None].expand_as(full)
    mask_loss = (_FOCAL * focal(full, target, _ALPHA).mean((2, 3)) + dice(full, target)).amin(1)
    with torch.no_grad():
        iou = ious(full > 0, truth, areas)
        error = (scores.float() - iou).abs().mean(1)
    score_loss = ((scores.float() - iou) ** 2).mean(1)
    return PerObject(mask_loss + score_loss, mask_loss.detach(), error, iou.amax(1))
