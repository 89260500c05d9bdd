"""SAM's mask decoder with fewer sums: what segment-anything's own computes, in another order.

An image has 4096 places and an object some ten tokens. segment-anything projects every place for
every object before tokens and places meet; here the tokens are projected into the space of the
places instead: (x W) t = x (W t). The places then take part in two products for each attention in
place of three or four, and their heads need not be separated. Upscaling stays in rows of places,
where a transposed convolution whose stride is its size is one product. Results differ by rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def two_way(
    transformer: Any, image: Tensor, positions: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Do what segment-anything's ``TwoWayTransformer`` does.

    Parameters
    ----------
    transformer : TwoWayTransformer
    image : (n, p, c) tensor
        p places of the image of each of n objects.
    positions : (1, p, c) tensor
    tokens : (n, t, c) tensor

    Returns
    -------
    tokens : (n, t, c) tensor
    image : (n, p, c) tensor
    """
    queries, keys = tokens, image
    placed = keys + positions
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            q = queries + tokens
            queries = queries + layer.self_attn(q=q, k=q, v=queries)
        queries = layer.norm1(queries)
        read = _read(layer.cross_attn_token_to_image, queries + tokens, placed, keys)
        queries = layer.norm2(queries + read)
        queries = layer.norm3(queries + layer.mlp(queries))
        told = _tell(layer.cross_attn_image_to_token, placed, queries + tokens, queries)
        keys = layer.norm4(keys + told)
        placed = keys + positions
    read = _read(transformer.final_attn_token_to_image, queries + tokens, placed, keys)
    return transformer.norm_final_attn(queries + read), keys


def masks(upscaling: Any, image: Tensor, mixes: Tensor, side: int) -> Tensor:
    """Do what ``MaskDecoder.output_upscaling`` does, and mix its channels to masks.

    Parameters
    ----------
    upscaling : nn.Sequential
    image : (n, side * side, c) tensor
    mixes : (n, m, c / 8) tensor

    Returns
    -------
    (n, m, 4 side, 4 side) tensor
    """
    first, norm, act, second, last = upscaling
    n, m = mixes.shape[:2]
    fine = _enlarged(first, image)
    # segment-anything's LayerNorm2d is a layer norm over channels, which are last here.
    fine = act(functional.layer_norm(fine, fine.shape[-1:], norm.weight, norm.bias, norm.eps))
    fine = last(_enlarged(second, fine))
    mixed = mixes @ fine.flatten(1, -2).transpose(1, 2)
    # Rows and columns, each of a place, of its half, and of that one's half.
    parts = mixed.view(n, m, side, side, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return parts.reshape(n, m, 4 * side, 4 * side)


def _read(attention: Any, tokens: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """Return what tokens take from the image: (n, t, c)."""
    heads = attention.num_heads
    queries = attention.q_proj(tokens).unflatten(-1, (heads, -1))
    _, t, _, depth = queries.shape
    into = attention.k_proj.weight.unflatten(0, (heads, depth))
    # The keys' bias adds the same to all places, which softmax does not see.
    asked = torch.einsum("nthd,hdc->nthc", queries * depth**-0.5, into).flatten(1, 2)
    weights = (asked @ placed.transpose(1, 2)).softmax(-1)
    seen = (weights @ image).unflatten(1, (t, heads))
    out = attention.v_proj.weight.unflatten(0, (heads, depth))
    # Weights sum to 1, so the values' bias comes through whole.
    found = torch.einsum("nthc,hdc->nthd", seen, out).flatten(2) + attention.v_proj.bias
    return attention.out_proj(found)


def _tell(attention: Any, placed: Tensor, tokens: Tensor, values: Tensor) -> Tensor:
    """Return what the image takes from tokens: (n, p, c)."""
    heads = attention.num_heads
    keys = attention.k_proj(tokens).unflatten(-1, (heads, -1))
    _, t, _, depth = keys.shape
    keys = keys * depth**-0.5
    into = attention.q_proj.weight.unflatten(0, (heads, depth))
    asked = torch.einsum("nthd,hdc->nhtc", keys, into).flatten(1, 2)
    shift = torch.einsum("nthd,hd->nht", keys, attention.q_proj.bias.unflatten(0, (heads, depth)))
    found = asked @ placed.transpose(1, 2) + shift.flatten(1)[..., None]
    weights = found.unflatten(1, (heads, t)).softmax(2).flatten(1, 2)
    given = attention.v_proj(values).unflatten(-1, (heads, depth))
    out = attention.out_proj.weight.unflatten(1, (heads, depth))
    told = torch.einsum("nthd,chd->nhtc", given, out).flatten(1, 2)
    return weights.transpose(1, 2) @ told + attention.out_proj.bias


def _enlarged(layer: Any, image: Tensor) -> Tensor:
    """Return (n, …, 2, 2, k) of a transposed convolution of size and stride 2 on (n, …, c)."""
    weight = layer.weight.permute(2, 3, 1, 0)  # 2, 2, k, c
    made = functional.linear(image, weight.flatten(0, 2), layer.bias.repeat(4))
    return made.unflatten(-1, weight.shape[:3])
