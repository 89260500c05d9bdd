"""What the losses of colour look at: crops of a window around boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional
from torchvision.ops import roi_align

from napari_histosam.models.des_sam.loss import CROP, affinity
from napari_histosam.models.sam.build import SIDE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Crops:
    """Colours around k boxes.

    Parameters
    ----------
    alike : (k, 8, 72, 72) tensor
        See `napari_histosam.models.des_sam.loss.affinity`.
    rgb : (k, 3, 72, 72) tensor
        0 to 255, 0 where there is no image.
    """

    alike: Tensor
    rgb: Tensor


def crops(rgb: Tensor, boxes: Tensor, inner: tuple[int, int], invalid_rows: int = 0) -> Crops:
    """Return the colours around boxes.

    Parameters
    ----------
    rgb : (3, 1024, 1024) tensor
        The padded window, 0 to 255.
    boxes : (k, 4) tensor
        Px of the square, of the objects.
    inner : tuple of int
        Width and height of the window in the square; the rest is padding.
    invalid_rows : int
        Lowest rows of the window that do not count; upstream: 10.
    """
    width, height = inner
    valid = torch.zeros(1, SIDE, SIDE, device=boxes.device)
    valid[:, : height - invalid_rows, :width] = 1
    whole = torch.cat([rgb.to(boxes.device).float(), _lab(rgb).to(boxes.device), valid])
    found = cut(whole[None], boxes)
    alike = affinity(found[:, 3:6], found[:, 6:])
    return Crops(alike, found[:, :3] * found[:, 6:])


def cut(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return a map (1, c, 1024, 1024) in boxes (k, 4): (k, c, 72, 72)."""
    return roi_align(maps, [boxes], CROP, 1.0, 0, aligned=True)


def chances(logits: Tensor, boxes: Tensor) -> Tensor:
    """Return the probabilities (n, 72, 72) of masks (n, 256, 256), each in its box (n, 4)."""
    own = []
    for low, box in zip(logits, boxes, strict=True):
        whole = functional.interpolate(
            low[None, None], (SIDE, SIDE), mode="bilinear", align_corners=False
        )
        own.append(cut(whole, box[None])[0, 0])
    return torch.stack(own).sigmoid()


def _lab(rgb: Tensor) -> Tensor:
    from skimage.color import rgb2lab

    pixels = rgb.cpu().numpy().astype(np.uint8).transpose(1, 2, 0)
    return torch.from_numpy(rgb2lab(pixels).transpose(2, 0, 1).astype(np.float32))
