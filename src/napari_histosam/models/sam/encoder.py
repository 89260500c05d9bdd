"""Runs an image encoder of the SAM family and also hands out its early feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segment_anything.modeling import ImageEncoderViT

if TYPE_CHECKING:
    from torch import Tensor, nn


def encode_features(encoder: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the embedding and the early feature of normalised, padded images.

    Parameters
    ----------
    encoder : ImageEncoderViT or TinyImageEncoder
    x : (n, 3, 1024, 1024) float32 tensor

    Returns
    -------
    embedding : (n, 256, 64, 64) tensor
    early : (n, c, 64, 64) tensor
        What decoders with a skip connection take (Ke et al. 2023, HQ-SAM, arXiv 2306.01567):
        after the first global-attention block of a ViT (c = 768, 1024 or 1280), or before the
        third stage of TinyViT (c = 160).
    """
    if not isinstance(encoder, ImageEncoderViT):
        embedding, early = encoder.features(x)  # type: ignore[operator]
        return embedding, early
    x = encoder.patch_embed(x)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    early = None
    for block in encoder.blocks:
        x = block(x)
        if early is None and block.window_size == 0:
            early = x.permute(0, 3, 1, 2)
    assert early is not None
    return encoder.neck(x.permute(0, 3, 1, 2)), early
