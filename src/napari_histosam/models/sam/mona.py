"""Mona adapters inside the blocks of SAM's ViT: small convolutional detours that are trained.

Yin et al. 2024, Mona, arXiv 2408.08345; placed inside both residual branches, before their sums, as
SAM-Lung does, and with SAM's own windows and position embedding kept. Names and shapes of the
adapters' parameters are those of SAM-Lung's files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable

    from segment_anything.modeling import ImageEncoderViT

NECK = 64
DROPOUT = 0.1


class MonaConv(nn.Module):
    """Depthwise convolutions of three sizes, averaged, and a mix of channels, each with a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(NECK, NECK, 3, padding=1, groups=NECK)
        self.conv2 = nn.Conv2d(NECK, NECK, 5, padding=2, groups=NECK)
        self.conv3 = nn.Conv2d(NECK, NECK, 7, padding=3, groups=NECK)
        self.projector = nn.Conv2d(NECK, NECK, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 64, h, w) to the same shape."""
        x = (self.conv1(x) + self.conv2(x) + self.conv3(x)) / 3 + x
        return x + self.projector(x)


class Mona(nn.Module):
    """One adapter.

    Parameters
    ----------
    width : int
        Channels of the trunk.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.gammax = nn.Parameter(torch.ones(width))
        self.project1 = nn.Linear(width, NECK)
        self.adapter_conv = MonaConv()
        self.project2 = nn.Linear(NECK, width)
        self.dropout = nn.Dropout(DROPOUT)

    def start_as_identity(self) -> None:
        """Have the adapter hand on its input unchanged until it has learned otherwise."""
        nn.init.zeros_(self.project2.weight)
        nn.init.zeros_(self.project2.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, h, w, width) to the same shape."""
        u = self.project1(self.norm(z) * self.gamma + z * self.gammax)
        e = self.adapter_conv(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return z + self.project2(self.dropout(functional.gelu(e)))


class MonaBlock(Block):
    """A block of SAM's ViT with an adapter in each branch; the block's own names stay.

    Parameters
    ----------
    plain : Block
        Its parts are shared, not copied.
    """

    def __init__(self, plain: Block) -> None:
        nn.Module.__init__(self)
        self.norm1, self.attn, self.norm2, self.mlp = (
            plain.norm1,
            plain.attn,
            plain.norm2,
            plain.mlp,
        )
        self.window_size = plain.window_size
        width = plain.norm1.normalized_shape[0]
        self.mona1, self.mona2 = Mona(width), Mona(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, h, w, width) to the same shape."""
        y = self.norm1(x)
        if self.window_size > 0:
            height, width = y.shape[1:3]
            y, padded = window_partition(y, self.window_size)
            y = window_unpartition(self.attn(y), self.window_size, padded, (height, width))
        else:
            y = self.attn(y)
        x = x + self.mona1(y)
        return x + self.mona2(self.mlp(self.norm2(x)))


def add_mona(encoder: ImageEncoderViT, *, identity: bool = True) -> None:
    """Put adapters into all blocks of an encoder, in place.

    Parameters
    ----------
    encoder : ImageEncoderViT
    identity : bool
        Start without effect; else as PyTorch initialises layers.
    """
    for number, plain in enumerate(encoder.blocks):
        block = MonaBlock(plain)
        if identity:
            block.mona1.start_as_identity()
            block.mona2.start_as_identity()
        encoder.blocks[number] = block.to(plain.norm1.weight.device)


def has_mona(names: Iterable[str]) -> bool:
    """Tell from the names in a checkpoint whether SAM's blocks have adapters."""
    return any(".mona1." in name for name in names)


def mona_parts(module: nn.Module) -> list[Mona]:
    """Return the adapters of a network."""
    return [part for part in module.modules() if isinstance(part, Mona)]
