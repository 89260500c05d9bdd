"""The loss of one batch of the bundled network: the means over its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_histosam.models.losses import ious
from napari_histosam.models.small.loss import per_object

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Losses", "ious", "losses"]


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

    Parameters
    ----------
    logits, scores, truth, areas, ambiguous : tensor
        See `napari_histosam.models.small.loss.per_object`.
    """
    return Losses(*(part.mean() for part in per_object(logits, scores, truth, areas, ambiguous)))
