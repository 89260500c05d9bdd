"""Builds SAM networks and fills them strictly from checkpoints under their published names."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect, mismatch
from napari_histosam.models.sam.mona import add_mona, has_mona

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SIDE = 1024
GRID = 64
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
PATCH = SIDE // GRID
# width, depth, heads and global-attention blocks of the published encoders
_VIT = {
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}
BUNDLED = "bundled"
# Some trainers save the constants for the pixels, too; the published values are used.
_OPTIONAL = ("pixel_mean", "pixel_std")


def build_sam(variant: str) -> Sam:
    """Return a SAM in eval mode whose weights are not set yet.

    Parameters
    ----------
    variant : {"vit_b", "vit_l", "vit_h", "vit_t", "bundled"}
        ``vit_t`` is MobileSAM; ``bundled`` has the trunk of `histosam-small` for an encoder.
    """
    # Random values for up to 640 M parameters would take seconds and be thrown away.
    with torch.device("meta"):
        prompt_encoder, mask_decoder = build_prompt_encoder(), build_mask_decoder()
        encoder: nn.Module | None = build_vit(variant) if variant in _VIT else None
    if variant == BUNDLED:
        from napari_histosam.models.sam.bundled import BundledEncoder

        encoder = BundledEncoder()
    elif encoder is None:
        from napari_histosam.models.sam.tiny_vit import TinyImageEncoder

        encoder = TinyImageEncoder()
    sam = Sam(encoder, prompt_encoder, mask_decoder, list(PIXEL_MEAN), list(PIXEL_STD))
    for part in sam.children():
        if any(p.is_meta for p in part.parameters()):
            part.to_empty(device="cpu")
    return sam.eval()


def build_vit(variant: str, side: int = SIDE) -> ImageEncoderViT:
    """Return SAM's ViT encoder (Kirillov et al. 2023, arXiv 2304.02643, appendix A).

    ``side`` is that of the square that it sees, in px, a multiple of 16.
    """
    width, depth, heads, global_blocks = _VIT[variant]
    return ImageEncoderViT(
        img_size=side,
        patch_size=PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=4,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=global_blocks,
    )


def build_prompt_encoder(side: int = SIDE) -> PromptEncoder:
    """Return SAM's prompt encoder for windows of ``side`` px."""
    grid = side * GRID // SIDE
    return PromptEncoder(
        embed_dim=256,
        image_embedding_size=(grid, grid),
        input_image_size=(side, side),
        mask_in_chans=16,
    )


def build_mask_decoder() -> MaskDecoder:
    """Return SAM's mask decoder: one single-answer token and three for ambiguous prompts."""
    return MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )


def load_sam(state: Mapping[str, Tensor], source: str, variant: str | None = None) -> Sam:
    """Return the SAM that a checkpoint holds, in eval mode, float32, on the CPU.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights under their published names.
    source : str
        The file's name, for messages.
    variant : str, optional
        The size that it must have; else the one that it has.

    Raises
    ------
    InputError
        If names or shapes do not fit; the sentence lists the first few and the likely decoder.
    """
    sam = fitting_sam(shapes(state), source, variant)
    sam.load_state_dict({ours: state[name] for name, ours in published_names(sam).items()})
    return sam.eval()


def fitting_sam(
    found: Mapping[str, tuple[int, ...]], source: str, variant: str | None = None
) -> Sam:
    """Return an unfilled SAM that takes exactly these names and shapes; see `load_sam`."""
    kind = detect(found)
    wanted = variant or kind.variant
    if wanted not in (*_VIT, "vit_t", BUNDLED) or (variant is None and kind.decoder != "sam"):
        wanted = "vit_b"  # to have something to compare with in the message
    sam = build_sam(wanted)
    if has_mona(found) and isinstance(sam.image_encoder, ImageEncoderViT):
        add_mona(sam.image_encoder)
    own = sam.state_dict()
    expected = {name: tuple(own[ours].shape) for name, ours in published_names(sam).items()}
    wrong = mismatch(expected, found, _OPTIONAL)
    if wrong is None:
        return sam
    advice = "choose a SAM checkpoint"
    if kind.decoder == "sam" and kind.variant != wanted:
        advice = f"pick a model of that size (it is {kind.variant})"
    elif kind.decoder == "sam":
        advice = "get the whole, unchanged checkpoint"
    elif kind.decoder is not None:
        advice = f"use the decoder {kind.decoder}"
    raise InputError(
        f"{source} does not fit SAM {wanted} ({wrong}); it looks like {kind.what}: {advice}."
    )


def published_names(sam: Sam) -> dict[str, str]:
    """Return published name -> own name of every entry of the state dict."""
    names = {name: name for name in sam.state_dict()}
    if any(name.startswith("image_encoder.trunk.stem.") for name in names) or isinstance(
        sam.image_encoder, ImageEncoderViT
    ):
        return names
    from napari_histosam.models.sam.tiny_vit import mobile_sam_name

    start = "image_encoder."
    return {
        start + mobile_sam_name(n.removeprefix(start)) if n.startswith(start) else n: n
        for n in names
    }
