"""EP-SAM's losses: of the classifier of patches, and of SAM's decoder on pseudo-masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

_SMOOTH = 1e-3
# Peak learning rates and weight decays: Adam for the classifier, AdamW for the decoder.
CLASSIFIER_RATE, CLASSIFIER_DECAY = 1e-5, 1e-3
DECODER_RATE, DECODER_DECAY = 5e-6, 1e-2


def patch_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross entropy of patches.

    Parameters
    ----------
    logits : (n,) tensor
        From `PatchClassifier`.
    labels : (n,) tensor
        1 where a patch holds tumour, else 0.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def dice_loss(probable: Tensor, target: Tensor) -> Tensor:
    """Return 1 - Dice of each of n masks, (n,).

    Parameters
    ----------
    probable : (n, h, w) tensor
        0 to 1.
    target : (n, h, w) tensor
        0 or 1.
    """
    common, both = _sums(probable, target)
    return 1 - (2 * common + _SMOOTH) / (both + _SMOOTH)


def iou_loss(probable: Tensor, target: Tensor) -> Tensor:
    """Return 1 - IoU of each of n masks, (n,); see `dice_loss`."""
    common, both = _sums(probable, target)
    return 1 - (common + _SMOOTH) / (both - common + _SMOOTH)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return what the decoder minimises: Dice and IoU loss, mean over n masks.

    Parameters
    ----------
    logits : (n, h, w) tensor
        At the size of the patch.
    target : (n, h, w) bool tensor
    """
    probable, truth = logits.float().sigmoid(), target.float()
    return (dice_loss(probable, truth) + iou_loss(probable, truth)).mean()


def _sums(probable: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    common = (probable * target).flatten(1).sum(1)
    return common, probable.flatten(1).sum(1) + target.flatten(1).sum(1)
