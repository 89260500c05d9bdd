"""The bundled network's trunk in the place of SAM's image encoder, where SAM's weights are not.

A ViT-B takes seconds for a window on a CPU, and its weights have to be fetched. The trunk of
`histosam-small` is on every machine; here its features of four scales of a window are laid onto
SAM's grid of 64 x 64, so that every decoder of the SAM family can be trained behind it. It is a
stand-in: it has seen some thousand images where SAM's encoder saw eleven million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from napari_histosam.models.small.encoder import CHANNELS, Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH = 256
EARLY = 160
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_OCTAVES = 4
# Of every octave, the features of strides 8 and 16; the finest ones of stride 8 by their four
# places in a cell of the grid, so that outlines are not lost.
_JOINED = 4 * CHANNELS[2] + CHANNELS[3] + 2 * (CHANNELS[2] + CHANNELS[3]) + CHANNELS[3]
_TRUNK = "encoder."


class BundledEncoder(nn.Module):
    """The bundled trunk with a neck like SAM's.

    Takes (n, 3, h, w) float32 as SAM's encoder does: normalised, sides multiples of 128. Gives
    (n, 256, h / 16, w / 16).
    """

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Encoder()
        self.neck = nn.Sequential(
            nn.Conv2d(_JOINED, WIDTH, 1, bias=False),
            LayerNorm2d(WIDTH),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )
        # Never trained: it only brings features to the width that decoders with a skip expect.
        self.skip = nn.Conv2d(4 * CHANNELS[2], EARLY, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding (n, 256, h / 16, w / 16)."""
        return self.features(x)[0]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding (n, 256, h / 16, w / 16) and early feature (n, 160, h / 16, w / 16)."""
        joined = self.joined(x)
        return self.neck(joined), self.skip(joined[:, : 4 * CHANNELS[2]])

    def joined(self, x: Tensor) -> Tensor:
        """Return the trunk's features on the grid, before the neck: (n, c, h / 16, w / 16)."""
        mean = x.new_tensor(_MEAN).view(-1, 1, 1)
        std = x.new_tensor(_STD).view(-1, 1, 1)
        pixels = (x * std + mean).div(255).contiguous(memory_format=torch.channels_last)
        grid = x.shape[2] // 16, x.shape[3] // 16
        parts = []
        for octave in range(_OCTAVES):
            seen = self.trunk(functional.avg_pool2d(pixels, 2**octave) if octave else pixels)
            if octave == 0:
                parts += [functional.pixel_unshuffle(seen.eighth, 2), seen.sixteenth]
            elif octave < _OCTAVES - 1:
                parts += [_onto(seen.eighth, grid), _onto(seen.sixteenth, grid)]
            else:
                parts.append(_onto(seen.sixteenth, grid))
        return torch.cat(parts, 1)


def fresh_encoder(small: Mapping[str, Tensor], seed: int = 0) -> BundledEncoder:
    """Return an encoder with the trunk of `histosam-small`, its neck yet to be trained.

    Parameters
    ----------
    small : mapping of str to Tensor
        The weights of `histosam-small`.
    seed : int
        Of the random rest.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = BundledEncoder()
        nn.init.orthogonal_(made.skip.weight)
    trunk = {
        name.removeprefix(_TRUNK): value.float() if value.is_floating_point() else value
        for name, value in small.items()
        if name.startswith(_TRUNK)
    }
    made.trunk.load_state_dict(trunk)
    return made.eval()


def _onto(x: Tensor, grid: tuple[int, int]) -> Tensor:
    if x.shape[2:] == grid:
        return x
    return functional.interpolate(x, grid, mode="bilinear", align_corners=False)
