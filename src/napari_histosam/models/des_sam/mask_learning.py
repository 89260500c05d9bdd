"""What DES-SAM's one token learns from: teacher's masks and colours, or outlines where drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_histosam.models.des_sam.colours import chances
from napari_histosam.models.des_sam.loss import (
    DILATION,
    distillation_loss,
    level_set_loss,
    pairwise_loss,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_histosam.models.des_sam.colours import Crops
    from napari_histosam.models.des_sam.network import DesSam


@dataclass(frozen=True)
class Recipe:
    """How losses are put together.

    Parameters
    ----------
    invalid_rows : int
        Lowest rows of a window whose colours do not count.
    in_proposal : bool
        Compare the mask in the proposal with the colours in the object's box, which are not the
        same place; else both in the object's box.
    dilation : int
        Px between the pixels of a mask that are compared; colours are compared 2 px apart.
    in_pixels : bool
        Compare boxes in px of the square, as upstream, whose detector was trained before; from
        random weights such steps overshoot. Else compare shifts, as Faster R-CNN does.
    box_factor : float
        Weight of the region head's boxes; upstream: 1, or 0.1 for clustered cells.
    """

    invalid_rows: int = 0
    in_proposal: bool = False
    dilation: int = DILATION
    in_pixels: bool = False
    box_factor: float = 1.0


PUBLISHED = Recipe(invalid_rows=10, in_proposal=True, dilation=1, in_pixels=True)


@dataclass(frozen=True)
class Lesson:
    """What masks should be, for k objects.

    Parameters
    ----------
    boxes : (k, 4) tensor
        Px of the square.
    masks : (k, 256, 256) bool tensor
        Of the teacher, or the outline.
    outlined : (k,) bool tensor
        Which are outlines: of these, colours say nothing more.
    crops : Crops
    """

    boxes: Tensor
    masks: Tensor
    outlined: Tensor
    crops: Crops


def mask_losses(
    net: DesSam,
    embedding: Tensor,
    proposals: Tensor,
    objects: Tensor,
    lesson: Lesson,
    recipe: Recipe,
    chunk: int = 8,
) -> Iterator[dict[str, Tensor]]:
    """Yield the losses of few proposals at a time; together they are the losses of all.

    Parameters
    ----------
    net : DesSam
    embedding : (1, 256, 64, 64) tensor
    proposals : (n, 4) tensor
        Boxes that prompt the student, px of the square.
    objects : (n,) tensor of int
        The object of each.
    lesson : Lesson
    recipe : Recipe
    chunk : int
        Proposals at a time.
    """
    by_colour = ~lesson.outlined[objects]
    count = int(by_colour.sum())
    sums = lesson.crops.alike.flatten(1).sum(1)
    alike = sums[objects][by_colour].sum().clamp(min=1)
    for rows in torch.arange(len(proposals), device=proposals.device).split(chunk):
        boxes, which = proposals[rows], objects[rows]
        logits = net.box_masks(embedding, boxes)
        entropy, dice = distillation_loss(logits, lesson.masks[which])
        out = {"mask_bce_loss": entropy, "mask_dice_loss": dice}
        some = by_colour[rows]
        if some.any():
            seen = which[some]
            at = boxes[some] if recipe.in_proposal else lesson.boxes[seen]
            chance = chances(logits[some], at)
            near = pairwise_loss(chance, lesson.crops.alike[seen], recipe.dilation)
            out["loss_local_pairwise"] = near / alike
            even = level_set_loss(chance, lesson.crops.rgb[seen])
            out["loss_global_pairwise"] = even.sum() / count
        yield out
