"""The loss that SAM was trained with: focal and Dice for masks, squared error for scores.

Kirillov et al. 2023, arXiv 2304.02643, appendix A: 20 to 1 between focal and Dice loss, the least
of the three masks' losses where a prompt is ambiguous, mean squared error of the predicted IoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_histosam.models.losses import PerObject, dice, focal, ious, known

if TYPE_CHECKING:
    from torch import Tensor

_FOCAL, _ALPHA = 20.0, 0.25


def per_object(
    logits: Tensor,
    scores: Tensor,
    truth: Tensor,
    areas: Tensor,
    ambiguous: Tensor,
    valid: Tensor | None = None,
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
    valid : (n, h, w) bool tensor, optional
        False where it is not known what is there.
    """
    full = functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear")
    target = truth.float()[:, None].expand_as(full)
    weight = known(full, valid)
    spread = (focal(full, target, _ALPHA) * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1)
    per_mask = _FOCAL * spread + dice(full, target, weight)
    mask_loss = torch.where(ambiguous, per_mask[:, 1:].amin(1), per_mask[:, 0])
    with torch.no_grad():
        iou = ious(full > 0, truth, areas, valid)
    squared = (scores.float() - iou) ** 2
    score_loss = torch.where(ambiguous, squared[:, 1:].mean(1), squared[:, 0])
    with torch.no_grad():
        off = (scores.float() - iou).abs()
        error = torch.where(ambiguous, off[:, 1:].mean(1), off[:, 0])
        first = torch.where(ambiguous, iou[:, 1:].amax(1), iou[:, 0])
    return PerObject(mask_loss + score_loss, mask_loss.detach(), error, first)
