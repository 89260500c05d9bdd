"""Maps images, prompts and masks between a window and SAM's square of 1024 px.

SAM scales the window's longer side to 1024, puts it at the top left and pads with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional

from napari_histosam.models.sam.build import PIXEL_MEAN, PIXEL_STD, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import Pixels

LOW = SIDE // 4
# Logits of a drawn mask: sigmoid(10) is 0.99995, and SAM's own answers reach about +-20.
MASK_LOGIT = 10.0


@dataclass(frozen=True)
class Frame:
    """The place of a window in the square.

    Parameters
    ----------
    size : tuple of int
        Width and height of the window in px.
    scaled : bool
        False for families that only pad: the window, at most 1024 px, keeps its size.
    """

    size: tuple[int, int]
    scaled: bool = True

    @property
    def original(self) -> tuple[int, int]:
        """Height and width of the window."""
        return self.size[1], self.size[0]

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width that the window has inside the square."""
        if not self.scaled:
            return self.original
        height, width = ResizeLongestSide.get_preprocess_shape(*self.original, SIDE)
        return max(height, 1), max(width, 1)

    def image(self, image: NDArray[np.uint8], pixels: Pixels = "imagenet") -> Tensor:
        """Return (1, 3, 1024, 1024) float32, as segment-anything's own predictor makes it."""
        if self.inner != self.original:
            # Pillow's antialiased bilinear, which the published encoders were trained behind.
            from torchvision.transforms.functional import resize, to_pil_image

            image = np.array(resize(to_pil_image(image), list(self.inner)))
        x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        if pixels == "minmax":
            low, high = float(image.min()), float(image.max())
            x = (x.float() - low) / max(high - low, 1e-8)
        else:
            mean = torch.tensor(PIXEL_MEAN).view(-1, 1, 1)
            std = torch.tensor(PIXEL_STD).view(-1, 1, 1)
            x = (x - mean) / std
        height, width = self.inner
        return functional.pad(x, (0, SIDE - width, 0, SIDE - height))

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Map corner-based window px (n, 2) to the pixel indices that SAM's encoder takes.

        SAM counts pixel centres as whole numbers and adds the half itself; scaling follows its
        predictor (index times new size over old size).
        """
        height, width = self.original
        factor = np.array([self.inner[1] / width, self.inner[0] / height])
        return ((points - 0.5) * factor).astype(np.float32)

    def mask_logits(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Turn a drawn mask (height, width) into SAM's mask input (256, 256).

        Each cell gets +10 where the mask covers it, -10 where not (also in the padding), and the
        value in between where the border cuts it.
        """
        height, width = self.inner
        x = torch.from_numpy(mask.astype(np.float32))[None, None]
        if self.inner != self.original:
            x = functional.interpolate(
                x, (height, width), mode="bilinear", align_corners=False, antialias=True
            )
        x = functional.pad(x, (0, SIDE - width, 0, SIDE - height))
        cover = functional.avg_pool2d(x, SIDE // LOW)[0, 0].clamp(0, 1)
        return ((2 * cover - 1) * MASK_LOGIT).numpy()

    def window_logits(self, low: Tensor) -> Tensor:
        """Enlarge logits (k, 256, 256) to the window: (k, height, width).

        Bilinear to the square, cut, bilinear to the window, as SAM's own post-processing.
        """
        x = functional.interpolate(low[None], (SIDE, SIDE), mode="bilinear", align_corners=False)
        height, width = self.inner
        x = x[..., :height, :width]
        if self.inner != self.original:
            x = functional.interpolate(x, self.original, mode="bilinear", align_corners=False)
        return x[0]
