"""Attention of SAM's ViT over a whole picture, a few rows at a time.

segment-anything holds the attention of all places to all others at once, several times: some 3 GB
at 1024 px. In steps it fits a processor's cache and takes a third of the time there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT
    from segment_anything.modeling.image_encoder import Attention

# Numbers that the attention of one step may hold: what fits a processor's cache is quickest.
_STEP_CPU, _STEP_GPU = 1 << 23, 1 << 28


class GlobalAttention(nn.Module):
    """Attention over a whole map with decomposed relative positions (Li et al. 2022, 2112.01526).

    Computes what segment-anything's ``Attention`` does, a few rows of queries at a time, so that
    memory does not grow with the square of the picture's area. Names are those of ``Attention``.

    Parameters
    ----------
    plain : Attention
        Its parameters are shared, not copied.
    """

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.num_heads = plain.num_heads
        self.qkv, self.proj = plain.qkv, plain.proj
        self.rel_pos_h, self.rel_pos_w = plain.rel_pos_h, plain.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, h, w, width) to the same shape."""
        n, h, w, width = x.shape
        qkv = self.qkv(x).view(n, h, w, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).unbind(0)
        keys, values = k.flatten(2, 3), v.flatten(2, 3)
        table_h = get_rel_pos(h, h, self.rel_pos_h)
        table_w = get_rel_pos(w, w, self.rel_pos_w)
        most = _STEP_CPU if x.device.type == "cpu" else _STEP_GPU
        rows = max(1, most // (n * self.num_heads * w * h * w))
        parts = []
        for top in range(0, h, rows):
            some = q[:, :, top : top + rows]
            down = torch.einsum("nahwc,hkc->nahwk", some, table_h[top : top + rows])
            across = torch.einsum("nahwc,wkc->nahwk", some, table_w)
            bias = (down[..., :, None] + across[..., None, :]).flatten(4).flatten(2, 3)
            parts.append(
                functional.scaled_dot_product_attention(
                    some.flatten(2, 3), keys, values, attn_mask=bias
                )
            )
        found = torch.cat(parts, 2)  # n, heads, h w, c
        out: Tensor = self.proj(found.transpose(1, 2).reshape(n, h, w, width))
        return out


def attend_in_steps(encoder: ImageEncoderViT) -> None:
    """Have an encoder's global blocks attend in steps, in place; results differ by rounding."""
    for block in encoder.blocks:
        if block.window_size == 0:
            block.attn = GlobalAttention(block.attn)
