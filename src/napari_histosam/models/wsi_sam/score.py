"""A quality score for the masks of WSI-SAM, which brings none of its own.

SAM's predicted IoU rates SAM's own masks, not the sum with the tokens' mask that WSI-SAM returns.
What is computed here was not learned and is no estimate of an IoU; it is the product of

- *stability*: the area where the logit is above 1 over that where it is above -1 (Kirillov et al.
  2023, arXiv 2304.02643, section 4): how little the outline depends on the threshold;
- *agreement*: the IoU of the mask with the one that the coarse window gives for the same object,
  within the fine window.

Both are 0 to 1. It is low where the two windows see different objects or the border is vague; a
mask of the wrong object can still have a high score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_histosam.models.sam.build import SIDE
from napari_histosam.models.sam.frame import LOW
from napari_histosam.models.wsi_sam.frame import RATIO

if TYPE_CHECKING:
    from torch import Tensor

_OFFSET = 1.0


def scores(fine: Tensor, coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the score (b,) of masks; 0 for an empty one.

    Parameters
    ----------
    fine, coarse : (b, 256, 256) tensor
        Logits of the same objects over the squares of both windows.
    size : tuple of int
        Width and height of the windows in px.
    """
    cell = SIDE // LOW
    width, height = (-(-side // cell) for side in size)
    fine = fine[:, :height, :width]
    stability = _ratio(fine > _OFFSET, fine > -_OFFSET)
    there = _seen(coarse, size)[:, :height, :width] > 0
    here = fine > 0
    score = stability * _ratio(here & there, here | there)
    return torch.where(here.any(2).any(1), score, torch.zeros_like(score))


def _seen(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the coarse logits at the cells of the fine window's square, bilinear."""
    cell = SIDE // LOW
    at = (torch.arange(LOW, device=coarse.device) + 0.5) * cell
    # Coarse px, then -1 to 1 over the whole square as grid_sample counts.
    x, y = ((at / RATIO + side / 4) / SIDE * 2 - 1 for side in size)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None].to(coarse.dtype)
    grid = grid.expand(len(coarse), -1, -1, -1)
    return functional.grid_sample(
        coarse[:, None], grid, padding_mode="border", align_corners=False
    )[:, 0]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part.sum((1, 2)).double() / whole.sum((1, 2)).double().clamp(min=1)
