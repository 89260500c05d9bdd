"""I-MedSAM's loss: mostly soft Dice, first of the coarse network, later of the final mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.models.wsi_sam.loss import cross_entropy, dice

if TYPE_CHECKING:
    from torch import Tensor

_DICE, _CROSS_ENTROPY = 0.8, 0.2
# Epochs until only the final mask counts.
_HANDOVER = 5


def criterion(logits: Tensor, truth: Tensor, *, upstream: bool = False) -> Tensor:
    """Return the loss of each object, (b,): 0.8 soft Dice and 0.2 binary cross entropy.

    Parameters
    ----------
    logits, truth : (b, h, w) tensor
    upstream : bool
        Leave out the cross entropy: upstream computes it over the one channel that there is, so it
        is zero there.
    """
    whole = _DICE * dice(logits, truth)
    return whole if upstream else whole + _CROSS_ENTROPY * cross_entropy(logits, truth)


def final_share(epoch: int) -> float:
    """Return the share of the final mask in the loss of an epoch, counted from 0."""
    return min((epoch + 1) / _HANDOVER, 1.0)


def loss(
    coarse: Tensor, final: Tensor, truth: Tensor, epoch: int, *, upstream: bool = False
) -> Tensor:
    """Return the loss of each object, (b,), in an epoch; see `criterion`."""
    share = final_share(epoch)
    first = criterion(coarse, truth, upstream=upstream)
    return (1 - share) * first + share * criterion(final, truth, upstream=upstream)
