"""A SAM to be trained from nothing: the bundled encoder, and random weights behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_histosam.models.sam.build import build_mask_decoder, build_prompt_encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segment_anything.modeling import MaskDecoder, PromptEncoder
    from torch import Tensor

    from napari_histosam.models.sam.bundled import BundledEncoder

# How much a place attends to a prompt at the same place, at first, as the factor of both
# projections; and how loud all else is beside the code of a place.
_SHARP, _QUIET, _CONTENT = 2.0, 0.1, 0.3


def fresh_sam(small: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Return the weights of a SAM of the variant ``"bundled"`` under SAM's names.

    Parameters
    ----------
    small : mapping of str to Tensor
        The weights of `histosam-small`.
    seed : int
        Of everything random.
    """
    from napari_histosam.models.sam.bundled import fresh_encoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, prompts, decoder = (
            fresh_encoder(small, seed),
            build_prompt_encoder(),
            build_mask_decoder(),
        )
        _look_where_prompts_are(encoder, prompts, decoder)
    parts = {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": decoder}
    return {
        f"{part}.{name}": value.detach()
        for part, net in parts.items()
        for name, value in net.state_dict().items()
    }


def _look_where_prompts_are(
    encoder: BundledEncoder, prompts: PromptEncoder, decoder: MaskDecoder
) -> None:
    """Begin with attention from prompts to the places where they are, and back.

    The codes of prompts and of places are the same, which a decoder with independent projections
    has to find out; with one matrix for both it is so from the start.
    """
    transformer: Any = decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in attentions:
            nn.init.orthogonal_(attention.q_proj.weight, gain=_SHARP)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
        quiet: list[Any] = [*prompts.point_embeddings, prompts.not_a_point_embed]
        quiet += [prompts.no_mask_embed, decoder.iou_token, decoder.mask_tokens]
        for embedding in quiet:
            embedding.weight.mul_(_QUIET)
        last: Any = encoder.neck[-1]
        last.weight.fill_(_CONTENT)
