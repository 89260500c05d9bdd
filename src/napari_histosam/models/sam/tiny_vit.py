"""MobileSAM's image encoder (TinyViT-5M at 1024 px) on timm's building blocks.

Wu et al. 2022, TinyViT, arXiv 2207.10666; Zhang et al. 2023, MobileSAM, arXiv 2306.14289.
"""

from __future__ import annotations

import re
from typing import Any

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from napari_histosam.errors import HistosamError

# timm's names (behind "body.") on the left, MobileSAM's on the right; all else is equal.
_RENAMES = (
    (r"^body\.head\.norm\.", r"norm_head."),
    (r"^body\.head\.fc\.", r"head."),
    (r"^body\.patch_embed\.conv1\.", r"patch_embed.seq.0."),
    (r"^body\.patch_embed\.conv2\.", r"patch_embed.seq.2."),
    (r"^body\.stages\.(\d+)\.blocks\.", r"layers.\1.blocks."),
    (r"\.conv\.weight$", r".c.weight"),
)


class TinyImageEncoder(nn.Module):
    """TinyViT-5M with the last merge at stride 1, and SAM's neck.

    Takes (n, 3, 1024, 1024) float32, normalised and padded; gives (n, 256, 64, 64).
    """

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        self.body = _tiny_vit()
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, kernel_size=1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        # timm keeps the expanded attention biases of its first forward pass; changing the mode
        # drops them, so that weights loaded later are the ones that count.
        self.register_load_state_dict_post_hook(lambda module, _: _drop_bias_cache(module))

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding (n, 256, 64, 64) of normalised images (n, 3, 1024, 1024)."""
        return self.features(x)[0]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding (n, 256, 64, 64) and early feature (n, 160, 64, 64).

        The early feature is what leaves the merge before the third stage.
        """
        x = self.body.patch_embed(x)
        x = self.body.stages[0](x)
        x = self.body.stages[1](x)
        third = self.body.stages[2]
        early = third.downsample(x)
        x = third.blocks(early.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.body.stages[3](x)
        return self.neck(x), early


def _tiny_vit() -> Any:
    # The classifier is not used, but published files carry it: with it, loading is strict.
    body: Any = TinyVit(
        num_classes=1000,
        embed_dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 5, 10),
        window_sizes=(7, 7, 14, 7),
        drop_path_rate=0.0,
    )
    stages: Any = body.stages
    try:
        # Keeps the grid at 64 x 64, as SAM's decoder needs it; timm's own stops at 32 x 32.
        stages[3].downsample.conv2.conv.stride = (1, 1)
    except AttributeError as error:
        raise HistosamError(
            "This version of timm builds TinyViT in another way: install timm 1.0.31."
        ) from error
    return body


def mobile_sam_name(name: str) -> str:
    """Return MobileSAM's name of a parameter of `TinyImageEncoder`."""
    # timm merges at the start of a stage, MobileSAM at the end of the one before.
    merge = re.match(r"^body\.stages\.(\d+)\.downsample\.", name)
    if merge:
        name = f"layers.{int(merge[1]) - 1}.downsample.{name[merge.end() :]}"
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _drop_bias_cache(module: nn.Module) -> None:
    module.train(module.training)
