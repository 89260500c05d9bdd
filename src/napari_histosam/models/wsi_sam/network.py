"""WSI-SAM as a network: one encoder for both windows, a decoder for each, masks from both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_histosam.models.sam.encoder import encode_features

if TYPE_CHECKING:
    from segment_anything.modeling import PromptEncoder

    from napari_histosam.models.sam.prompts import PromptBatch
    from napari_histosam.models.wsi_sam.decoder import Branch, TokenDecoder


@dataclass(frozen=True)
class View:
    """The features of n windows of one scale.

    Parameters
    ----------
    embedding : (n, 256, 64, 64) tensor
    early : (n, 160, 64, 64) tensor
    """

    embedding: Tensor
    early: Tensor


@dataclass(frozen=True)
class Fused:
    """The answers of both decoders to b objects.

    Parameters
    ----------
    high, low : Branch
    kernel : (b, 32) tensor
        The sum of both kernels, which is all that passes between the windows.
    """

    high: Branch
    low: Branch
    kernel: Tensor

    def fine(self) -> Tensor:
        """Return the result: logits (b, 256, 256) over the fine window's square."""
        return self.high.logits(self.kernel)

    def coarse(self) -> Tensor:
        """Return the same object in the coarse window: logits (b, 256, 256)."""
        return self.low.logits(self.kernel)


class WsiSam(nn.Module):
    """MobileSAM's encoder and prompt encoder with WSI-SAM's decoders.

    Parameters
    ----------
    image_encoder : nn.Module
    prompt_encoder : PromptEncoder
    high, low : TokenDecoder
        Of the fine and of the coarse window.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        high: TokenDecoder,
        low: TokenDecoder,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.high = high
        self.low = low

    def view(self, pixels: Tensor) -> View:
        """Encode normalised, padded windows (n, 3, 1024, 1024)."""
        return View(*encode_features(self.image_encoder, pixels))

    def window_features(self, fine: View, coarse: View) -> tuple[Tensor, Tensor]:
        """Return what both decoders make of a pair of windows before any prompt is known."""
        return (
            self.high.window_feature(fine.embedding, fine.early),
            self.low.window_feature(coarse.embedding, coarse.early),
        )

    def forward(
        self,
        fine: View,
        coarse: View,
        fine_prompts: PromptBatch,
        coarse_prompts: PromptBatch,
        features: tuple[Tensor, Tensor] | None = None,
    ) -> Fused:
        """Answer the prompts of b objects.

        Parameters
        ----------
        fine, coarse : View
            Of one pair of windows, or of one pair for each object.
        fine_prompts, coarse_prompts : PromptBatch
            The same objects in both windows.
        features : tuple of Tensor, optional
            From `window_features`, where they are known already.
        """
        ahead = features or self.window_features(fine, coarse)
        high = self._branch(self.high, fine, fine_prompts, ahead[0])
        low = self._branch(self.low, coarse, coarse_prompts, ahead[1])
        return Fused(high, low, high.kernel + low.kernel)

    def _branch(
        self, decoder: TokenDecoder, view: View, prompts: PromptBatch, feature: Tensor
    ) -> Branch:
        sparse, dense = self.prompt_encoder(prompts.points, prompts.boxes, prompts.masks)
        positions = self.prompt_encoder.get_dense_pe()
        return decoder.branch(view.embedding, feature, positions, sparse, dense)
