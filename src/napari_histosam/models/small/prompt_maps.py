"""Draws prompts as maps that the bundled network's decoder reads beside the image features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models.trainable import NetPrompts

NARROW_PX = 3.0
WIDE_PX = 20.0
TENT_PX = 16.0
MAPS = 8
EARLIER = 5
"""The channel of the earlier mask."""


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of n objects in net px (corner based) of their crops, padded to the same length.

    Parameters
    ----------
    points : (n, k, 2) float tensor of x, y
    labels : (n, k) int tensor
        1 positive, 0 negative, -1 for padding.
    boxes : (n, 4) float tensor
        Left, top, right, bottom; NaN where an object has none.
    previous : (n, 1, h / 2, w / 2) float tensor
        Probability of an earlier mask at half resolution; NaN where an object has none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    previous: Tensor

    def pick(self, index: Tensor) -> PromptBatch:
        """Return the prompts of the objects with these numbers."""
        return PromptBatch(
            self.points[index], self.labels[index], self.boxes[index], self.previous[index]
        )

    def to(self, device: str) -> PromptBatch:
        """Return the prompts on a device."""
        return PromptBatch(
            self.points.to(device),
            self.labels.to(device),
            self.boxes.to(device),
            self.previous.to(device),
        )


def gathered(
    prompts: Sequence[NetPrompts], shape: tuple[int, int], device: str = "cpu"
) -> PromptBatch:
    """Return the prompts of objects whose crops are of one size as tensors.

    Parameters
    ----------
    prompts : sequence of NetPrompts
    shape : tuple of int
        Height and width of the crops in net px.
    device : str
    """
    height, width = shape
    n, longest = len(prompts), max(1, *(len(one.points) for one in prompts))
    points = np.zeros((n, longest, 2), np.float32)
    labels = np.full((n, longest), -1, np.int64)
    boxes = np.full((n, 4), np.nan, np.float32)
    previous = np.full((n, 1, height // 2, width // 2), np.nan, np.float32)
    for row, one in enumerate(prompts):
        if one.points:
            points[row, : len(one.points)] = one.points
            labels[row, : len(one.labels)] = one.labels
        if one.box is not None:
            boxes[row] = one.box
        if one.previous is not None:
            previous[row, 0] = one.previous
    arrays = (points, labels, boxes, previous)
    return PromptBatch(*(torch.from_numpy(array).to(device) for array in arrays))


def draw(prompts: PromptBatch) -> Tensor:
    """Return the maps (n, `MAPS`, h / 2, w / 2) float32.

    Channels: positive clicks narrow (Gaussian) and wide (exponential), negative clicks likewise,
    box (0 to 1 inside, 0 to -1 outside), earlier mask (-1 to 1), whether there is a box, whether
    there is an earlier mask. What is not there is 0.
    """
    height, width = prompts.previous.shape[-2:]
    device = prompts.points.device
    ys = torch.arange(height, device=device, dtype=torch.float32) * 2 + 1
    xs = torch.arange(width, device=device, dtype=torch.float32) * 2 + 1
    maps = [
        drawn
        for label in (1, 0)
        for drawn in _clicks(prompts.points.float(), prompts.labels == label, xs, ys)
    ]
    has_box = ~prompts.boxes.isnan().any(1)
    has_mask = ~prompts.previous.flatten(1).isnan().any(1)
    ones = torch.ones(1, height, width, device=device)
    box = _tent(prompts.boxes.nan_to_num(0.0).float(), xs, ys) * has_box[:, None, None]
    earlier = prompts.previous.float().nan_to_num(0.5)[:, 0] * 2 - 1
    return torch.stack(
        [*maps, box, earlier, ones * has_box[:, None, None], ones * has_mask[:, None, None]], 1
    )


def _clicks(points: Tensor, wanted: Tensor, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
    dx = (xs - points[..., 0, None]) ** 2  # (n, k, w)
    dy = (ys - points[..., 1, None]) ** 2  # (n, k, h)
    far = torch.where(wanted, 0.0, 1e8)[..., None, None]
    squared = (dy[..., :, None] + dx[..., None, :] + far).amin(1)
    return torch.exp(-squared / (2 * NARROW_PX**2)), torch.exp(-squared.sqrt() / WIDE_PX)


def _tent(boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    # Distance to the nearest side, negative outside, along each axis.
    along_x = torch.minimum(xs - left, right - xs)[:, None, :]
    along_y = torch.minimum(ys - top, bottom - ys)[:, :, None]
    depth = torch.minimum(along_x, along_y)
    half = (torch.minimum(right - left, bottom - top) / 2).clamp(min=1.0)[:, :, None]
    return torch.where(depth > 0, depth / half, depth / TENT_PX).clamp(-1, 1)
