"""SAM-Lung's loss and learning rate: half cross entropy, half soft Dice over all classes.

For two outputs as the authors have it; for more, the same formulas with every class counted, where
theirs knows only two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# The label of px that nobody labelled.
IGNORED = 255
# Of the background and the one class; with more classes all weigh the same.
WEIGHTS = (1.0, 1.5)
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
_SMOOTH = 1e-6
_WARM_UP, _POWER = 1e-3, 0.9


def cross_entropy(logits: Tensor, target: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return the mean cross entropy of the labelled px, each weighted by its class.

    Parameters
    ----------
    logits : (n, c, h, w) tensor
    target : (n, h, w) integer tensor
        The number of each px's class, or 255 where it is unknown.
    weights : sequence of c float, optional
    """
    if not bool((target != IGNORED).any()):
        return logits.sum() * 0.0
    weight = None if weights is None else logits.new_tensor(list(weights))
    return functional.cross_entropy(logits, target.long(), weight, ignore_index=IGNORED)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice over outputs and pictures, over labelled px only.

    Arguments as `cross_entropy`. An output that is neither seen nor expected counts as found.
    """
    known = target != IGNORED
    classes = torch.where(known, target, 0).long()
    shown = functional.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2)
    counted = known[:, None]
    truth = (shown * counted).to(logits.dtype).flatten(2)
    probable = (logits.softmax(1) * counted).flatten(2)
    common, total = (probable * truth).sum(2), probable.sum(2) + truth.sum(2)
    total = torch.where(total == 0, 2 * common, total)
    return 1 - ((2 * common + _SMOOTH) / (total + _SMOOTH)).mean()


def loss(logits: Tensor, target: Tensor, weights: Sequence[float] | None = WEIGHTS) -> Tensor:
    """Return what is minimised: half the cross entropy and half the Dice loss.

    Arguments as `cross_entropy`; ``weights`` for two outputs only hold where there are two.
    """
    if weights is not None and len(weights) != logits.shape[1]:
        weights = None
    return 0.5 * dice_loss(logits, target) + 0.5 * cross_entropy(logits, target, weights)


def pace(step: int, per_epoch: int, epochs: int) -> float:
    """Return the share of the peak learning rate after a number of steps.

    Linear warm-up over the first epoch, then a falling power of what is left.
    """
    if step <= per_epoch or epochs <= 1:
        done = min(step / per_epoch, 1.0)
        return _WARM_UP * (1 - done) + done
    left = 1 - (step - per_epoch) / ((epochs - 1) * per_epoch)
    return float(max(left, 0.0) ** _POWER)
