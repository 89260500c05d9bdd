"""SAM's ViT with gated low-rank updates and a second stream that sees the image's spectrum.

Wei et al. 2024, I-MedSAM, arXiv 2311.17081; low-rank updates: Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional

from napari_histosam.models.sam.build import PIXEL_MEAN, PIXEL_STD
from napari_histosam.models.sam.bundled import BundledEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segment_anything.modeling import ImageEncoderViT

RANK = 4
# Which thirds of the fused qkv layer get an update, by how many there are per block.
TARGETS = {2: (0, 2), 3: (0, 1, 2)}
_SHARE = 0.5


class GatedQkv(nn.Linear):
    """A fused qkv layer with low-rank updates, scaled by one gate per attention window.

    ``weight`` and ``bias`` keep their names. Takes (n, h, w, width): the gate of each of the n
    windows is a linear function of its mean, zeros of the padding included.

    Parameters
    ----------
    plain : nn.Linear
        Its weight and bias are shared.
    rank : int
    targets : tuple of int
        Thirds of the output that are updated: 0 query, 1 key, 2 value.
    """

    def __init__(self, plain: nn.Linear, rank: int, targets: tuple[int, ...]) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, "meta")
        self.weight, self.bias = plain.weight, plain.bias
        width, device = plain.in_features, plain.weight.device
        self.targets = targets
        empty = [torch.empty(rank, width, device=device) for _ in targets]
        self.down = nn.ParameterList(empty)
        self.up = nn.ParameterList(torch.zeros(width, rank, device=device) for _ in targets)
        self.gate = nn.Parameter(torch.empty(1, width, device=device))
        for part in (*self.down, self.gate):
            nn.init.kaiming_uniform_(part, a=math.sqrt(5))

    def gates(self, x: Tensor) -> Tensor:
        """Return the gate (n, 1) of each window (n, h, w, width)."""
        return functional.linear(x.mean((1, 2)), self.gate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, h, w, width) to (n, h, w, 3 width)."""
        y = list(functional.linear(x, self.weight, self.bias).chunk(3, -1))
        gate = self.gates(x)[:, None, None]
        for target, down, up in zip(self.targets, self.down, self.up, strict=True):
            y[target] = y[target] + gate * functional.linear(functional.linear(x, down), up)
        return torch.cat(y, -1)


class FrequencyStep(nn.Module):
    """One step of the stream of the spectrum: a norm and a narrow residual layer behind it."""

    def __init__(self, width: int, hidden: int = RANK) -> None:
        super().__init__()
        self.freq_norm = nn.LayerNorm(width, eps=1e-6)
        self.freq_adapter = nn.ModuleDict(
            {"D_fc1": nn.Linear(width, hidden), "D_fc2": nn.Linear(hidden, width)}
        )

    def forward(self, u: Tensor) -> Tensor:
        """Map (n, t, t, width) to the same shape; what goes on unchanged is the normed input."""
        n: Tensor = self.freq_norm(u)
        hidden = functional.gelu(self.freq_adapter["D_fc1"](n))
        out: Tensor = n + self.freq_adapter["D_fc2"](hidden)
        return out


class FrequencyEncoder(nn.Module):
    """The encoder: (n, 3, side, side) RGB of 0 to 1 to (n, 256, side / 16, side / 16).

    Parameters
    ----------
    vit : ImageEncoderViT
        Built for ``side``; gets the updates here.
    rank : int
        Of the low-rank updates.
    targets : tuple of int
        See `GatedQkv`.
    hidden : int
        Width of the layers in the stream of the spectrum.
    """

    def __init__(
        self, vit: ImageEncoderViT, rank: int, targets: tuple[int, ...], hidden: int = RANK
    ) -> None:
        super().__init__()
        self.vit = vit
        steps = []
        for block in vit.blocks:
            qkv = block.attn.qkv
            block.attn.qkv = GatedQkv(qkv, rank, targets)
            steps.append(FrequencyStep(qkv.in_features, hidden))
        self.steps = nn.ModuleList(steps)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding (n, 256, t, t)."""
        x, _ = deque(self.streams(images), maxlen=1)[0]
        out: Tensor = self.vit.neck(x.permute(0, 3, 1, 2))
        return out

    def streams(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield both streams, image and spectrum, (n, t, t, width) each, after every block."""
        vit = self.vit
        assert vit.pos_embed is not None
        x = vit.patch_embed(images) + vit.pos_embed
        u = vit.patch_embed(spectrum(images)) + vit.pos_embed
        for block, step in zip(vit.blocks, self.steps, strict=True):
            x = _attended(block, x)
            u = step(u)
            x = x + block.mlp(block.norm2(x)) + _SHARE * u
            yield x, u


class PlainEncoder(nn.Module):
    """The bundled encoder behind I-MedSAM's pixels: (n, 3, side, side) RGB of 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = BundledEncoder()

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding (n, 256, side / 16, side / 16)."""
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        out: Tensor = self.vit((images * 255 - mean) / std)
        return out


def spectrum(images: Tensor) -> Tensor:
    """Return the centred amplitude spectrum of images (n, 3, h, w), stretched to 0 to 1.

    Of the red channel, as upstream takes it, three times; the amplitude itself, not its logarithm.
    An image of one value has a spectrum of zeros.
    """
    # Apple's GPUs know no double precision.
    exact = torch.float32 if images.device.type == "mps" else torch.float64
    with torch.autocast(images.device.type, enabled=False):
        red = images[:, 0].to(exact)
        size = torch.fft.fftshift(torch.fft.fft2(red), dim=(-2, -1)).abs()
        low, high = size.amin((1, 2), keepdim=True), size.amax((1, 2), keepdim=True)
        span = high - low
        flat = span <= 0
        scaled = (size - low) / span.masked_fill(flat, 1)
        scaled = scaled.masked_fill(flat, 0).to(images.dtype)
    return scaled[:, None].expand(-1, 3, -1, -1)


def resized_tables(
    state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return a stock encoder's weights with its tables of places resized for another grid.

    Parameters
    ----------
    state : mapping of str to Tensor
        Of the encoder for 1024 px, names without a prefix.
    wanted : mapping of str to tuple of int
        Shapes in the encoder for the wanted side; which blocks attend globally, and so have
        longer tables, is its say.
    """
    out = {}
    for name, shape in wanted.items():
        value = state[name].detach()
        if tuple(value.shape) != tuple(shape):
            if name == "pos_embed":
                value = functional.interpolate(
                    value.permute(0, 3, 1, 2), shape[1:3], mode="bilinear", align_corners=False
                ).permute(0, 2, 3, 1)
            else:
                value = functional.interpolate(
                    value.T[None], shape[0], mode="linear", align_corners=False
                )[0].T
        out[name] = value.contiguous()
    return out


def _attended(block: Block, x: Tensor) -> Tensor:
    """Return a block's input with its attention added; the rest of the block is done elsewhere."""
    y = block.norm1(x)
    if block.window_size > 0:
        height, width = y.shape[1:3]
        y, padded = window_partition(y, block.window_size)
        y = window_unpartition(block.attn(y), block.window_size, padded, (height, width))
    else:
        y = block.attn(y)
    out: Tensor = x + y
    return out
