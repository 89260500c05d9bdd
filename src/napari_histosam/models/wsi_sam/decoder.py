"""One of WSI-SAM's two decoders: SAM's, with a token and a mask feature of its own.

Liu et al. 2024, WSI-SAM, arXiv 2403.09257; the token and its feature follow Ke et al. 2023,
HQ-SAM, arXiv 2306.01567.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

WIDTH, KERNEL = 256, 32
# Channels of the early feature of MobileSAM's encoder.
EARLY = 160
# Names of what WSI-SAM adds to SAM's decoder.
ADDED = ("hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature")


@dataclass(frozen=True)
class Branch:
    """What one decoder says about b objects.

    Parameters
    ----------
    kernel : (b, 32) tensor
        The token's mask kernel.
    feature : (b, 32, 256, 256) tensor
        What kernels are applied to.
    plain : (b, 4, 256, 256) tensor
        The logits of SAM's own four mask tokens.
    scores : (b, 4) tensor
        SAM's predicted IoUs of these four.
    """

    kernel: Tensor
    feature: Tensor
    plain: Tensor
    scores: Tensor

    def token_logits(self, kernel: Tensor) -> Tensor:
        """Return a kernel (b, 32) applied to the feature: (b, 256, 256)."""
        return torch.einsum("bc,bchw->bhw", kernel, self.feature)

    def logits(self, kernel: Tensor) -> Tensor:
        """Return the branch's mask under a kernel (b, 32): (b, 256, 256)."""
        return self.token_logits(kernel) + self.plain[:, 0]


class TokenDecoder(MaskDecoder):
    """SAM's mask decoder (120 tensors) with WSI-SAM's 25; names as upstream saves them."""

    def __init__(self) -> None:
        super().__init__(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=WIDTH,
        )
        self.hf_token = nn.Embedding(1, WIDTH)
        self.hf_mlp = MLP(WIDTH, WIDTH, KERNEL, 3)
        self.compress_vit_feat = _enlarge(EARLY, WIDTH)
        self.embedding_encoder = _enlarge(WIDTH, WIDTH // 4)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(KERNEL, WIDTH // 4, 3, padding=1),
            LayerNorm2d(WIDTH // 4),
            nn.GELU(),
            nn.Conv2d(WIDTH // 4, KERNEL, 3, padding=1),
        )

    def window_feature(self, embedding: Tensor, early: Tensor) -> Tensor:
        """Return the part of the feature that does not depend on prompts: (n, 32, 256, 256).

        Parameters
        ----------
        embedding : (n, 256, 64, 64) tensor
        early : (n, 160, 64, 64) tensor
        """
        return self.embedding_encoder(embedding) + self.compress_vit_feat(early)

    def transformed(
        self, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens (b, 6 + n, 256) and the image (b, 4096, 256) after the transformer.

        Parameters
        ----------
        embedding : (1 or b, 256, 64, 64) tensor
        positions : (1, 256, 64, 64) tensor
        sparse : (b, n, 256) tensor
        dense : (b, 256, 64, 64) tensor
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight])
        b = sparse.shape[0]
        tokens = torch.cat([own.expand(b, -1, -1), sparse], 1)
        hidden, source = self.transformer(
            embedding + dense, positions.expand(b, -1, -1, -1), tokens
        )
        return hidden, source

    def branch(
        self,
        embedding: Tensor,
        window_feature: Tensor,
        positions: Tensor,
        sparse: Tensor,
        dense: Tensor,
    ) -> Branch:
        """Answer the prompts of b objects; arguments as for `transformed`.

        Parameters
        ----------
        window_feature : (1 or b, 32, 256, 256) tensor
            See `window_feature`.
        """
        hidden, source = self.transformed(embedding, positions, sparse, dense)
        # Prompts come first in every tensor: nothing here can be broadcast across objects.
        grid = source.transpose(1, 2).reshape(len(hidden), WIDTH, *embedding.shape[2:])
        fine = self.output_upscaling(grid)
        mixes = torch.stack(
            [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1
        )
        return Branch(
            kernel=self.hf_mlp(hidden[:, 1 + self.num_mask_tokens]),
            feature=self.embedding_maskfeature(fine) + window_feature,
            plain=torch.einsum("bmc,bchw->bmhw", mixes, fine),
            scores=self.iou_prediction_head(hidden[:, 0]),
        )


def is_added(name: str) -> bool:
    """Tell whether a parameter is one of those that WSI-SAM adds and trains."""
    return name.split(".", 1)[0] in ADDED


def _enlarge(wide: int, middle: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(wide, middle, 2, 2),
        LayerNorm2d(middle),
        nn.GELU(),
        nn.ConvTranspose2d(middle, KERNEL, 2, 2),
    )
