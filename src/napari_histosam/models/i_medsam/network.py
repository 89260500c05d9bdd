"""I-MedSAM as a network, and its parameters under the names that upstream gives them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from napari_histosam.models.i_medsam.encoder import RANK, TARGETS, FrequencyEncoder, PlainEncoder
from napari_histosam.models.i_medsam.field import FieldDecoder
from napari_histosam.models.i_medsam.points import Region, Sampler
from napari_histosam.models.sam.build import build_prompt_encoder, build_vit

if TYPE_CHECKING:
    from napari_histosam.models.sam.prompts import PromptBatch

_LORA = re.compile(r"^image_encoder\.vit\.blocks\.(\d+)\.attn\.qkv\.(down|up)\.(\d+)$")
_GATE = re.compile(r"^image_encoder\.vit\.blocks\.(\d+)\.attn\.qkv\.gate$")
_STEP = re.compile(r"^image_encoder\.steps\.(\d+)\.(.*)$")


class IMedSam(nn.Module):
    """Encoder, prompt encoder and implicit decoder for squares of one side.

    Parameters
    ----------
    side : int
        Px of the square, a multiple of 16.
    rank : int
        Of the low-rank updates.
    projections : int
        Updates per block: 2 (query, value) or 3 (query, key, value).
    classes : int
    hidden : int
        Width of the stream of the spectrum's layers.
    bundled : bool
        With the bundled encoder in the place of the ViT: without updates and spectrum.
    """

    def __init__(
        self,
        side: int,
        rank: int = RANK,
        projections: int = 2,
        classes: int = 1,
        hidden: int = RANK,
        *,
        bundled: bool = False,
    ) -> None:
        super().__init__()
        self.side = side
        self.image_encoder: nn.Module = (
            PlainEncoder()
            if bundled
            else FrequencyEncoder(build_vit("vit_b", side), rank, TARGETS[projections], hidden)
        )
        self.prompt_encoder = build_prompt_encoder(side)
        self.mask_decoder = FieldDecoder(classes)

    @property
    def projections(self) -> int:
        """Low-rank updates per block; 0 behind the bundled encoder."""
        if not isinstance(self.image_encoder, FrequencyEncoder):
            return 0
        qkv: Any = self.image_encoder.vit.blocks[0].attn.qkv
        return len(qkv.down)

    def upscaled(self, embedding: Tensor, prompts: PromptBatch) -> Tensor:
        """Return what the implicit networks see of b objects: (b, 32, side / 4, side / 4)."""
        sparse, dense = self.prompt_encoder(prompts.points, prompts.boxes, None)
        return self.mask_decoder.upscaled(
            embedding, self.prompt_encoder.get_dense_pe(), sparse, dense
        )

    def sampler(
        self,
        upscaled: Tensor,
        grid: tuple[int, int],
        region: Region | None = None,
        progress: float = 1.0,
    ) -> Sampler:
        """Return the inputs of one object's points.

        Parameters
        ----------
        upscaled : (32, side / 4, side / 4) tensor
        grid : tuple of int
            Height and width of the output that covers the whole window.
        region : Region, optional
            The part of it that is wanted; else all.
        progress : float
            See `Sampler`.
        """
        part = region or Region(0, 0, grid[1], grid[0])
        return Sampler((upscaled, self.prompt_encoder.get_dense_pe()[0]), grid, part, progress)


def published_names(net: IMedSam) -> dict[str, str]:
    """Return published name -> own name of all that I-MedSAM's checkpoint holds.

    The stock encoder's weights are not among them.
    """
    out = {}
    for own in net.state_dict():
        name = _published(own, net.projections)
        if name is not None:
            out[name] = own
    return out


def _published(own: str, projections: int) -> str | None:
    lora = _LORA.match(own)
    if lora:
        letter = "a" if lora[2] == "down" else "b"
        return f"w_{letter}_{projections * int(lora[1]) + int(lora[3]):03d}"
    gate = _GATE.match(own)
    if gate:
        return f"w_g_{int(gate[1]):03d}"
    step = _STEP.match(own)
    if step:
        return f"image_encoder.blocks.{step[1]}.{step[2]}"
    return None if own.startswith("image_encoder.") else own
