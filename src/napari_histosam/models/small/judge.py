"""Compares all masks that the bundled network gives for one prompt: which one is meant."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_histosam.models.small.decoder import DESCRIBED, MASKS

_WIDTH, _HEADS, _LAYERS, _DROPOUT = 64, 4, 2, 0.2
# Descriptions this many deviations off are no farther off than that.
_FARTHEST = 5.0


class Judge(nn.Module):
    """Predicts the IoU of all masks that answer one prompt, each in the light of the others.

    A mask by itself hardly tells whether it is the nucleus, the nest or the gland that a click
    meant; beside those that the other scales of the window gave, it does. The masks are a set
    without order (self-attention, Vaswani et al. 2017, arXiv 1706.03762).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(DESCRIBED))
        self.register_buffer("deviation", torch.ones(DESCRIBED))
        self.take = nn.Linear(DESCRIBED + MASKS + 1, _WIDTH)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 2 * _WIDTH, _DROPOUT, batch_first=True, norm_first=True
        )
        self.compare = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.tell = nn.Linear(_WIDTH, 1)

    def forward(self, described: Tensor, kinds: Tensor, areas: Tensor, there: Tensor) -> Tensor:
        """Judge the masks of n objects.

        Parameters
        ----------
        described : (n, k, DESCRIBED) float tensor
            From `napari_histosam.models.small.decoder.Decoder`.
        kinds : (n, k) int tensor
            Which of the decoder's masks each is, from 0.
        areas : (n, k) float tensor
            In px of the window, whatever scale the mask was found at.
        there : (n, k) bool tensor
            False for padding.

        Returns
        -------
        (n, k) float32 tensor
            Logits of the predicted IoU.
        """
        plain = (described.float() - self.mean) / self.deviation
        plain = plain.clamp(-_FARTHEST, _FARTHEST)
        kind = functional.one_hot(kinds, MASKS).float()
        size = (areas.float() + 1).log()
        usual = (size * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
        tokens = self.take(torch.cat([plain, kind, (size - usual)[..., None]], 2))
        return self.tell(self.compare(tokens, src_key_padding_mask=~there))[..., 0]
