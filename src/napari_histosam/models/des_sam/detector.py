"""DES-SAM's detector on torchvision's parts: proposals, and what is in each of them.

Ren et al. 2015, Faster R-CNN, arXiv 1506.01497, as mmdetection computes it. torchvision differs in
four ways, which are set right here: it rounds anchors, aligns regions to whole pixels, clamps sizes
from above only, and predicts a box for each class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import roi_align

from napari_histosam.models.des_sam.pyramid import STRIDES, WIDTH
from napari_histosam.models.sam.build import SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors."""

_POOLED, _HIDDEN = 7, 1024
# A region of this side, in px of the square, is looked at on the finest level.
_FINEST = 56
_MOST = math.log(1000 / 16)
_STDS = (0.1, 0.1, 0.2, 0.2)


class Anchors(AnchorGenerator):
    """torchvision's anchors without rounding."""

    def generate_anchors(
        self,
        scales: Any,
        aspect_ratios: Any,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Return (n, 4) boxes around (0, 0)."""
        # Not the default device: a network is built without memory for its parameters.
        place = torch.device("cpu") if device is None else device
        sides = torch.as_tensor(scales, dtype=dtype, device=place)
        high = torch.as_tensor(aspect_ratios, dtype=dtype, device=place).sqrt()
        w, h = (1 / high)[:, None] * sides, high[:, None] * sides
        w, h = w.flatten(), h.flatten()
        return torch.stack([-w, -h, w, h], 1) / 2


class Coder(BoxCoder):
    """torchvision's coder of boxes as shifts, with sizes clamped on both sides.

    Parameters
    ----------
    stds : tuple of float
        By which shifts and sizes are divided.
    """

    def __init__(self, stds: tuple[float, float, float, float]) -> None:
        super().__init__(tuple(1 / std for std in stds), _MOST)

    def decoded(self, shifts: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes (n, 4) that shifts (n, 4) make of boxes (n, 4)."""
        low = shifts.new_tensor([-torch.inf, -torch.inf, -_MOST, -_MOST])
        least = low * shifts.new_tensor(self.weights)
        return self.decode_single(torch.maximum(shifts, least), boxes)

    def encoded(self, truth: Tensor, boxes: Tensor) -> Tensor:
        """Return the shifts (n, 4) that make ``truth`` of boxes (n, 4)."""
        return self.encode_single(truth, boxes)


@dataclass(frozen=True)
class Objectness:
    """What the proposal network says of all N anchors of one window.

    Parameters
    ----------
    logits : (N,) tensor
    shifts : (N, 4) tensor
    anchors : (N, 4) tensor
        Px of the square.
    counts : tuple of int
        Anchors of each level.
    """

    logits: Tensor
    shifts: Tensor
    anchors: Tensor
    counts: tuple[int, ...]


class Proposer(RegionProposalNetwork):
    """The proposal network; ``train()`` only has it keep more candidates."""

    def __init__(self) -> None:
        super().__init__(
            Anchors(tuple((8 * s,) for s in STRIDES), (RATIOS,) * len(STRIDES)),
            RPNHead(WIDTH, len(RATIOS), conv_depth=2),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 1000, "testing": 1000},
            nms_thresh=0.7,
        )
        self.coder = Coder((1.0, 1.0, 1.0, 1.0))

    def objectness(self, levels: Sequence[Tensor]) -> Objectness:
        """Look at all anchors of the one window of a pyramid."""
        logits, shifts = self.head(list(levels))
        square = ImageList(levels[0].new_empty((1, 0, SIDE, SIDE)), [(SIDE, SIDE)])
        (anchors,) = self.anchor_generator(square, list(levels))
        counts = tuple(int(one[0].numel()) for one in logits)
        flat, moved = concat_box_prediction_layers(logits, shifts)
        # In half precision places in the square would be px apart.
        return Objectness(flat.flatten().float(), moved.float(), anchors, counts)

    def proposals(self, found: Objectness, overlap: float = 0.7) -> tuple[Tensor, Tensor]:
        """Return boxes (n, 4) in px of the square, the best first, and their objectness (n,)."""
        self.nms_thresh = overlap
        boxes = self.coder.decoded(found.shifts.detach(), found.anchors)
        kept, scores = self.filter_proposals(
            boxes[None], found.logits[None], [(SIDE, SIDE)], list(found.counts)
        )
        return kept[0], scores[0]


class RegionHead(nn.Module):
    """Tells the class of what is in a region, and where exactly it lies.

    Parameters
    ----------
    classes : int
        Without the background, which is the last output.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.trunk = FastRCNNConvFCHead((WIDTH, _POOLED, _POOLED), [WIDTH] * 4, [_HIDDEN])
        self.fc_cls = nn.Linear(_HIDDEN, classes + 1)
        self.fc_reg = nn.Linear(_HIDDEN, 4)
        self.coder = Coder(_STDS)

    def forward(self, levels: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, classes + 1) and shifts (n, 4) of boxes (n, 4) of the one window."""
        hidden = self.trunk(pooled(levels, boxes))
        return self.fc_cls(hidden).float(), self.fc_reg(hidden).float()


def level_of(boxes: Tensor) -> Tensor:
    """Return the level (n,) on which a box (n, 4) is looked at.

    Lin et al. 2017, feature pyramids, arXiv 1612.03144, equation 1.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (side / _FINEST + 1e-6).log2().floor().clamp(0, len(STRIDES) - 1).long()


def pooled(levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Return the features (n, 256, 7, 7) of boxes (n, 4), px of the square."""
    at = level_of(boxes)
    out = boxes.new_zeros((len(boxes), WIDTH, _POOLED, _POOLED), dtype=levels[0].dtype)
    for number, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
        rows = (at == number).nonzero()[:, 0]
        if len(rows):
            found = roi_align(level, [boxes[rows]], _POOLED, 1 / stride, 0, aligned=True)
            out = out.index_copy(0, rows, found.to(out.dtype))
    return out


def clipped(boxes: Tensor) -> Tensor:
    """Return boxes cut to the square."""
    return boxes.clamp(0, SIDE)
