"""Maps windows, boxes and masks to DES-SAM's square of 1024 px and back.

Unlike SAM's own, it is padded with black before the pixels are normalised, windows are scaled by
OpenCV's plain bilinear, and boxes keep their corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

from napari_histosam.models.sam.build import PIXEL_MEAN, PIXEL_STD, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Square:
    """The place of a window in the square: at the top left, its longer side as long.

    Parameters
    ----------
    size : tuple of int
        Width and height of the window in px.
    """

    size: tuple[int, int]

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height that the window has inside the square."""
        scale = SIDE / max(self.size)
        width, height = (max(int(side * scale + 0.5), 1) for side in self.size)
        return width, height

    @property
    def factor(self) -> NDArray[np.float64]:
        """Px of the square per px of the window, along x and y; rounding lets them differ."""
        return np.array(self.inner, np.float64) / np.array(self.size, np.float64)

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a window (h, w, 3) scaled and padded: (1024, 1024, 3)."""
        width, height = self.inner
        out = np.zeros((SIDE, SIDE, 3), np.uint8)
        if self.inner != self.size:
            image = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
            )
        out[:height, :width] = image
        return out

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Map boxes (n, 4) of window px, corner based, to px of the square."""
        return (np.asarray(boxes) * np.tile(self.factor, 2)).astype(np.float32)

    def window_boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Map boxes (n, 4) of the square to window px, cut to the window."""
        found = boxes.astype(np.float64) / np.tile(self.factor, 2)
        return found.clip(0, np.tile(np.array(self.size, np.float64), 2))

    def window_logits(self, low: Tensor) -> Tensor:
        """Enlarge logits (n, 256, 256) to the window: (n, height, width), twice bilinear."""
        x = functional.interpolate(low[None], (SIDE, SIDE), mode="bilinear", align_corners=False)
        width, height = self.inner
        x = x[..., :height, :width]
        if self.inner != self.size:
            x = functional.interpolate(x, self.size[::-1], mode="bilinear", align_corners=False)
        return x[0]


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """Return (1, 3, 1024, 1024) float32 of a padded window (1024, 1024, 3)."""
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (x - mean) / std
