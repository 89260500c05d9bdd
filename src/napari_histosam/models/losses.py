"""Loss terms that the recipes of several decoders share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class PerObject(NamedTuple):
    """What each of n objects is judged by.

    Parameters
    ----------
    total : (n,) tensor
        To be minimised.
    mask : (n,) tensor
        The masks' part of it.
    score : (n,) tensor
        Mean error of the predicted IoU.
    iou : (n,) tensor
        IoU of the mask that answers clear prompts.
    """

    total: Tensor
    mask: Tensor
    score: Tensor
    iou: Tensor


def dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Return 1 - Dice (n, m) of soft masks (Milletari et al. 2016, arXiv 1606.04797).

    Parameters
    ----------
    logits, target : (n, m, h, w) tensor
    smooth : float
        Added above and below the line.
    """
    probable = logits.sigmoid()
    common = (probable * target).sum((2, 3))
    return 1 - (2 * common + smooth) / (probable.sum((2, 3)) + target.sum((2, 3)) + smooth)


def focal(logits: Tensor, target: Tensor, alpha: float | None = None) -> Tensor:
    """Return the focal loss of each px (Lin et al. 2017, arXiv 1708.02002), gamma 2.

    Parameters
    ----------
    logits, target : (n, m, h, w) tensor
    alpha : float, optional
        Weight of px inside; those outside get 1 - alpha. None: all the same.
    """
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (1 - (-plain).exp()) ** 2 * plain
    if alpha is not None:
        loss = loss * (alpha * target + (1 - alpha) * (1 - target))
    return loss


def ious(masks: Tensor, truth: Tensor, areas: Tensor) -> Tensor:
    """Return the IoU (n, m) of masks with objects that may reach beyond the picture.

    Parameters
    ----------
    masks : (n, m, h, w) bool tensor
    truth : (n, h, w) bool tensor
    areas : (n,) tensor
        The objects' whole areas in px.
    """
    flat, inside = masks.flatten(2).float(), truth.flatten(1).float()
    common = (flat * inside[:, None]).sum(2)
    return common / (flat.sum(2) + areas[:, None] - common).clamp(min=1.0)
