"""SAM's mask decoder without its judge of masks, and with DES-SAM's one learned token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_histosam.models.sam.two_way import masks as upscaled
from napari_histosam.models.sam.two_way import two_way

if TYPE_CHECKING:
    from torch import Tensor, nn

_MASKS = 4


@dataclass(frozen=True)
class Looked:
    """What a decoder has made of the image and n prompts.

    Parameters
    ----------
    tokens : (n, 4, 256) tensor
        Those of the four masks; the first one is used.
    image : (n, 4096, 256) tensor
    """

    tokens: Tensor
    image: Tensor


def looked(
    decoder: nn.Module,
    embedding: Tensor,
    positions: Tensor,
    sparse: Tensor,
    dense: Tensor,
    learned: Tensor | None = None,
) -> Looked:
    """Have prompts and image look at each other.

    Parameters
    ----------
    decoder : MaskDecoder
    embedding : (1, 256, 64, 64) tensor
    positions : (1, 256, 64, 64) tensor
    sparse : (n, t, 256) tensor
    dense : (n, 256, 64, 64) tensor
    learned : (1, 256) tensor, optional
        The learned token, which stands before the prompts.
    """
    part: Any = decoder
    n = len(sparse)
    own = [part.iou_token.weight, part.mask_tokens.weight]
    own += [] if learned is None else [learned]
    tokens = torch.cat([torch.cat(own).expand(n, -1, -1), sparse], 1)
    image = (embedding + dense).flatten(2).transpose(1, 2).contiguous()
    places = positions.flatten(2).transpose(1, 2).contiguous()
    hidden, seen = two_way(part.transformer, image, places, tokens)
    return Looked(hidden[:, 1 : 1 + _MASKS], seen)


def mask_logits(decoder: nn.Module, found: Looked) -> Tensor:
    """Return the logits (n, 256, 256) of the first mask."""
    part: Any = decoder
    mixes = part.output_hypernetworks_mlps[0](found.tokens[:, 0])[:, None]
    side = round(found.image.shape[1] ** 0.5)
    return upscaled(part.output_upscaling, found.image, mixes, side)[:, 0]
