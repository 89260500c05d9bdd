"""DES-SAM's losses: of the detector, of the teacher's masks, and of colours within a box.

The authors' code, as described by its formulas; colours after Tian et al. 2021, BoxInst, arXiv
2012.02310, regions after Chan and Vese 2001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

CROP = 72
"""Px of the crops in which colours are compared."""

DILATION = 2
_BCE, _DICE, _REGION = 0.5, 0.01, 0.001
_STEEP = 0.5
# The eight neighbours of a pixel in the order of rows.
_AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def objectness_loss(
    logits: Tensor, shifts: Tensor, wanted: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the losses of the proposal network.

    Parameters
    ----------
    logits : (n,) tensor
        Of the sampled anchors, those of objects first.
    shifts : (p, 4) tensor
        Of the p anchors of objects.
    wanted : (p, 4) tensor
        The shifts that they should have.
    count : int
        By which sums are divided: anchors sampled.
    """
    truth = torch.zeros_like(logits)
    truth[: len(wanted)] = 1
    sorting = functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    return sorting / max(count, 1), (shifts - wanted).abs().sum() / max(count, 1)


def region_loss(
    logits: Tensor, kinds: Tensor, boxes: Tensor, truth: Tensor, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the losses of the region head.

    Parameters
    ----------
    logits : (n, classes + 1) tensor
        Of the sampled regions.
    kinds : (n,) tensor of int
        Class of each; the last is the background.
    boxes, truth : (p, 4) tensors
        The refined boxes of the p regions of objects, and the objects' boxes, px of the square.
    factor : float
        Of the boxes' loss; upstream: 1, or 0.1 for clustered cells.
    """
    if not len(logits):
        return logits.sum(), boxes.sum()
    off = (boxes - truth).abs().sum() / len(logits)
    return functional.cross_entropy(logits, kinds), factor * off


def distillation_loss(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross entropy and Dice of masks, each summed over objects and weighted.

    Parameters
    ----------
    logits : (n, h, w) tensor
    truth : (n, h, w) tensor
        0 or 1.
    """
    flat, wanted = logits.flatten(1), truth.flatten(1).to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(flat, wanted, reduction="none")
    chance = flat.sigmoid()
    both, each = (chance * wanted).sum(1), chance.sum(1) + wanted.sum(1)
    dice = 1 - (2 * both / 1000 + 1e-6) / (each / 1000 + 1e-6)
    return _BCE * entropy.mean(1).sum(), _DICE * dice.sum()


def affinity(lab: Tensor, valid: Tensor, dilation: int = DILATION) -> Tensor:
    """Return how alike each pixel is to its eight neighbours: (n, 8, h, w), 0 to 1.

    Parameters
    ----------
    lab : (n, 3, h, w) tensor
        CIELAB.
    valid : (n, 1, h, w) tensor
        0 where a neighbour does not count.
    dilation : int
        Px to a neighbour.
    """
    off = (lab[:, None] - _neighbours(lab, dilation)).norm(dim=2)
    return torch.exp(-_STEEP * off) * _neighbours(valid, dilation)[:, :, 0]


def pairwise_loss(chance: Tensor, alike: Tensor, dilation: int = DILATION) -> Tensor:
    """Return by how much pixels of one colour differ, not yet divided.

    Parameters
    ----------
    chance : (n, h, w) tensor
        Probability of the object.
    alike : (n, 8, h, w) tensor
        From `affinity`. Whoever sums over all objects divides by the sum of it, at least 1.
    dilation : int
        Px to a neighbour; upstream: 1, though affinities are of pixels 2 apart.
    """
    around = _neighbours(chance[:, None], dilation)[:, :, 0]
    return (alike * (chance[:, None] - around).abs()).sum()


def level_set_loss(chance: Tensor, rgb: Tensor) -> Tensor:
    """Return how uneven inside and outside are: (n,), weighted.

    Parameters
    ----------
    chance : (n, h, w) tensor
    rgb : (n, 3, h, w) tensor
        0 to 255, 0 where it is not valid.
    """
    both = _energy(chance, rgb) + _energy(1 - chance, rgb)
    return _REGION * both / chance[0].numel()


def _energy(part: Tensor, rgb: Tensor) -> Tensor:
    part = part[:, None]
    mean = (rgb * part).sum((2, 3), keepdim=True) / part.sum((2, 3), keepdim=True).clamp(min=1e-5)
    return ((rgb - mean) ** 2 * part).sum((1, 2, 3)) / 3


def _neighbours(x: Tensor, dilation: int) -> Tensor:
    """Return (n, 8, c, h, w) of (n, c, h, w), 0 outside."""
    height, width = x.shape[2:]
    wide = functional.pad(x, (dilation,) * 4)
    return torch.stack(
        [
            wide[
                :,
                :,
                (1 + dy) * dilation : (1 + dy) * dilation + height,
                (1 + dx) * dilation : (1 + dx) * dilation + width,
            ]
            for dy, dx in _AROUND
        ],
        1,
    )
