"""SAM-Lung's encoder: SAM's ViT with Mona adapters, without positions or windows.

It learned with SAM's position embedding left out and with every block looking at the whole picture,
so its weights mean nothing otherwise. Tables of relative positions that were made for windows are
stretched linearly to the picture's size, as segment-anything stretches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_histosam.models.sam.attention import GlobalAttention

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT


class LungEncoder(nn.Module):
    """The encoder: (n, 3, h, w) normalised pixels to (n, 256, h / 16, w / 16).

    Parameters
    ----------
    vit : ImageEncoderViT
        With adapters in its blocks (`napari_histosam.models.sam.mona.add_mona`); its parts are
        taken over under their names.
    as_sam : bool
        Keep SAM's position embedding and windows, which needs less memory and fits what SAM
        learned. Only for weights that were trained so: never for the authors' files.
    """

    def __init__(self, vit: ImageEncoderViT, *, as_sam: bool = False) -> None:
        super().__init__()
        self.as_sam = as_sam
        self.patch_embed, self.pos_embed = vit.patch_embed, vit.pos_embed
        self.blocks, self.neck = vit.blocks, vit.neck
        if as_sam:
            return
        for block in self.blocks:
            block.window_size = 0
            block.attn = GlobalAttention(block.attn)

    def forward(self, x: Tensor) -> Tensor:
        """Encode pictures whose sides are multiples of 16."""
        x = self.patch_embed(x)
        if self.as_sam:
            x = x + self.pos_embed
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.blocks.parameters())
        for block in self.blocks:
            # One block's activations at a time: attention over a whole window is large.
            x = checkpoint(block, x, use_reentrant=False) if learns else block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out
