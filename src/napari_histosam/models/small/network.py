"""The bundled network: an encoder per image, a decoder per prompt, a judge over its masks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from napari_histosam.models.small.decoder import Decoder
from napari_histosam.models.small.encoder import Encoder, Features
from napari_histosam.models.small.judge import Judge
from napari_histosam.models.small.layers import ConvNorm, Residual
from napari_histosam.models.small.prompt_maps import PromptBatch, draw


class SmallNet(nn.Module):
    """All that `histosam-small` has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.judge = Judge()

    def encode(self, pixels: Tensor) -> Features:
        """Encode RGB images (n, 3, h, w) from 0 to 1 whose sides are multiples of 16."""
        return self.encoder(pixels)

    def decode(self, features: Features, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Answer prompts from features, one row of features for each object.

        Returns
        -------
        logits : (n, MASKS, h / 2, w / 2) tensor
        scores : (n, MASKS) tensor
            Logits of the predicted IoU of each mask, by itself.
        """
        logits, described = self.describe(features, prompts)
        return logits, self.decoder.score(described)[..., 0]

    def describe(self, features: Features, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Answer prompts as `decode` does, with what the judge needs in place of scores.

        Returns
        -------
        logits : (n, MASKS, h / 2, w / 2) tensor
        described : (n, MASKS, DESCRIBED) float32 tensor
        """
        return self.decoder(features, draw(prompts))

    @property
    def dtype(self) -> torch.dtype:
        """What the convolutions compute in, and so what pixels and features must be in."""
        return self.decoder.masks.weight.dtype

    def to_half(self) -> SmallNet:
        """Have the convolutions compute in bfloat16; scores stay float32."""
        score, judge = copy.deepcopy(self.decoder.score), copy.deepcopy(self.judge)
        self.to(torch.bfloat16)
        self.decoder.score, self.judge = score, judge
        return self

    def for_inference(self) -> SmallNet:
        """Return a copy with the norms folded into the convolutions: the same function, faster.

        Convert it with `to_half` where the device is quicker that way.
        """
        net = copy.deepcopy(self).eval()
        for module in net.modules():
            if isinstance(module, ConvNorm | Residual):
                module.fold()
        return net
