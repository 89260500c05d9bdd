"""The image half of the bundled network: pixels to features at four strides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_histosam.models.small.layers import ConvNorm, Residual

STRIDES = (2, 4, 8, 16)
CHANNELS = (16, 48, 64, 96)
MULTIPLE = STRIDES[-1]
"""Sides of an image must be multiples of this."""


class Features(NamedTuple):
    """Features of images, finest first: (n, ``CHANNELS[i]``, h / ``STRIDES[i]``, …)."""

    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor

    def pick(self, index: Tensor) -> Features:
        """Return the features of the images with these numbers, one row for each."""
        return Features(*(level[index] for level in self))


class Encoder(nn.Module):
    """A small convolutional trunk with top-down paths (Lin et al. 2017, arXiv 1612.03144)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 24, stride=2)
        self.stage4 = nn.Sequential(ConvNorm(24, 48, stride=2), Residual(48))
        self.stage8 = nn.Sequential(ConvNorm(48, 96, stride=2), Residual(96))
        self.stage16 = nn.Sequential(ConvNorm(96, 192, stride=2), Residual(192), Residual(192))
        self.out16 = ConvNorm(192, CHANNELS[3], size=1)
        self.side8 = ConvNorm(96, CHANNELS[2], size=1)
        self.down16 = ConvNorm(CHANNELS[3], CHANNELS[2], size=1)
        self.out8 = ConvNorm(CHANNELS[2], CHANNELS[2])
        self.side4 = ConvNorm(48, CHANNELS[1], size=1)
        self.down8 = ConvNorm(CHANNELS[2], CHANNELS[1], size=1)
        self.out4 = ConvNorm(CHANNELS[1], CHANNELS[1])
        self.down4 = ConvNorm(CHANNELS[1], CHANNELS[0], size=1)
        self.out2 = ConvNorm(24 + CHANNELS[0], CHANNELS[0], size=1)

    def forward(self, pixels: Tensor) -> Features:
        """Encode images.

        Parameters
        ----------
        pixels : (n, 3, h, w) float tensor
            RGB from 0 to 1; sides are multiples of `MULTIPLE`.
        """
        x2 = self.stem((pixels - 0.5) * 4.0)
        x4 = self.stage4(x2)
        x8 = self.stage8(x4)
        f16 = self.out16(self.stage16(x8))
        f8 = self.out8(self.side8(x8) + _enlarged(self.down16(f16)))
        f4 = self.out4(self.side4(x4) + _enlarged(self.down8(f8)))
        f2 = self.out2(torch.cat([x2, _enlarged(self.down4(f4))], 1))
        return Features(f2, f4, f8, f16)


def _enlarged(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
