"""The simple feature pyramid: four scales made of the one embedding of SAM's encoder.

Li et al. 2022, ViTDet, arXiv 2203.16527, section 3, on SAM's 256 channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segment_anything.modeling.common import LayerNorm2d
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 256
STRIDES = (4, 8, 16, 32)
"""Px of the square per cell of each level."""


class Pyramid(nn.Module):
    """Four levels of 256 channels; parameters have upstream's names."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = WIDTH // 2, WIDTH // 4
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(WIDTH, half, 2, 2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                    *_tail(quarter),
                ),
                nn.Sequential(nn.ConvTranspose2d(WIDTH, half, 2, 2), *_tail(half)),
                nn.Sequential(*_tail(WIDTH)),
                nn.Sequential(nn.MaxPool2d(2, 2), *_tail(WIDTH)),
            ]
        )

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Return maps (n, 256, 256 / 128 / 64 / 32 a side), finest first, of (n, 256, 64, 64)."""
        return [stage(embedding) for stage in self.stages]


def _tail(width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(width, WIDTH, 1, bias=False),
        LayerNorm2d(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        LayerNorm2d(WIDTH),
    )
