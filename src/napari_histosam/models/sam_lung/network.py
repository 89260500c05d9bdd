"""SAM-Lung as a network, and its parameters under the names that its authors' files have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_histosam.models.sam.build import SIDE, build_vit
from napari_histosam.models.sam.bundled import BundledEncoder
from napari_histosam.models.sam.mona import add_mona
from napari_histosam.models.sam_lung.decoder import PyramidDecoder
from napari_histosam.models.sam_lung.encoder import LungEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODER, WRAPPED = "image_encoder.", "image_encoder.sam.image_encoder."
_ADAPTER = re.compile(r"\.mona[12]\.")
_BLOCK = re.compile(r"^(blocks\.\d+\.)(?!mona[12]\.)")


class SamLung(nn.Module):
    """Encoder and decoder.

    Parameters
    ----------
    encoder : nn.Module
        From normalised pixels (n, 3, h, w) to an embedding (n, 256, h / 16, w / 16).
    decoder : PyramidDecoder
    """

    def __init__(self, encoder: nn.Module, decoder: PyramidDecoder) -> None:
        super().__init__()
        self.image_encoder = encoder
        self.mask_decoder = decoder

    @property
    def outputs(self) -> int:
        """Classes, what is none of them included."""
        return int(self.mask_decoder.classifier.out_channels)

    def forward(self, pixels: Tensor, size: tuple[int, int] = (SIDE, SIDE)) -> Tensor:
        """Return logits (n, outputs, height, width).

        Parameters
        ----------
        pixels : (n, 3, h, w) tensor
            Normalised; sides are multiples of 16, with the bundled encoder of 128.
        size : tuple of int
            Height and width of the answer. The authors' is always 1024, whatever the picture's.
        """
        out: Tensor = self.mask_decoder(self.image_encoder(pixels), size)
        return out


def build(
    outputs: int,
    *,
    cbam: bool,
    as_sam: bool = False,
    identity: bool = False,
    bundled: bool = False,
) -> SamLung:
    """Return SAM-Lung with SAM's ViT-B, freshly initialised.

    Parameters
    ----------
    outputs : int
    cbam, as_sam : bool
        See `PyramidDecoder` and `LungEncoder`.
    identity : bool
        Start the adapters without effect; the authors start them at random.
    bundled : bool
        Have the bundled encoder in the place of the ViT. It takes no adapters.
    """
    if bundled:
        return SamLung(BundledEncoder(), PyramidDecoder(outputs, cbam=cbam))
    vit = build_vit("vit_b")
    add_mona(vit, identity=identity)
    return SamLung(LungEncoder(vit, as_sam=as_sam), PyramidDecoder(outputs, cbam=cbam))


def published_name(own: str) -> str:
    """Return the name in the authors' files of an entry of `SamLung`'s state."""
    if not own.startswith(ENCODER):
        return own
    return WRAPPED + _BLOCK.sub(r"\1original_block.", own.removeprefix(ENCODER))


def published_from_sam(name: str) -> str | None:
    """Return the name in the authors' files of an entry of a plain SAM's file."""
    if name.startswith(ENCODER):
        return published_name(name)
    if name.startswith(("prompt_encoder.", "mask_decoder.")):
        return f"image_encoder.sam.{name}"
    return None


def is_learned(published: str) -> bool:
    """Tell from its name in the authors' files whether a parameter is trained, not SAM's."""
    return published.startswith("mask_decoder.") or _ADAPTER.search(published) is not None


def learned(net: SamLung) -> dict[str, nn.Parameter]:
    """Return the trained parameters under the authors' names: adapters and decoder."""
    named = {published_name(name): value for name, value in net.named_parameters()}
    return {name: value for name, value in named.items() if is_learned(name)}


def learned_state(net: SamLung) -> dict[str, Tensor]:
    """Return what training changes, the norms' statistics included, under the authors' names."""
    own: Mapping[str, Tensor] = net.state_dict()
    named = {published_name(name): value for name, value in own.items()}
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in named.items()
        if is_learned(name)
    }
