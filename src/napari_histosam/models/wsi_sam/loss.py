"""WSI-SAM's loss: soft Dice and binary cross entropy on the token's mask of both windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

_SMOOTH = 1e-5


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Return one minus the soft Dice of each object, (b,).

    ``1 - (2 sum(pt) + s) / (sum(p^2) + sum(t^2) + s)``, p the probability: Milletari et al. 2016,
    V-Net, arXiv 1606.04797, smoothed by s = 1e-5 above and below.

    Parameters
    ----------
    logits : (b, h, w) tensor
    truth : (b, h, w) tensor
        Bool, or 0 to 1.
    """
    p = torch.sigmoid(logits).flatten(1)
    t = truth.to(p.dtype).flatten(1)
    both = 2 * (p * t).sum(1) + _SMOOTH
    return 1 - both / ((p * p).sum(1) + (t * t).sum(1) + _SMOOTH)


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the binary cross entropy of each object, its mean over the pixels: (b,)."""
    each = functional.binary_cross_entropy_with_logits(
        logits, truth.to(logits.dtype), reduction="none"
    )
    return each.flatten(1).mean(1)


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return logits (b, h, w) at another height and width, bilinear, as they meet the truth."""
    return functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def loss(high: Tensor, low: Tensor, high_truth: Tensor, low_truth: Tensor) -> Tensor:
    """Return the sum of both losses over both windows, for each object: (b,).

    Parameters
    ----------
    high, low : (b, h, w) tensor
        Logits of the fine and the coarse window, at the size of the truth.
    high_truth, low_truth : (b, h, w) tensor
    """
    fine = dice(high, high_truth) + cross_entropy(high, high_truth)
    return fine + dice(low, low_truth) + cross_entropy(low, low_truth)
