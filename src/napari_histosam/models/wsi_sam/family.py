"""WSI-SAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.parts import PARTS, divided
from napari_histosam.models.wsi_sam.load import fresh_decoder, load_wsi_sam, save_decoder
from napari_histosam.models.wsi_sam.trainable import METHODS, WsiSamTrainable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method
    from napari_histosam.models.wsi_sam.model import WsiSamModel

BASES = "MobileSAM or a SAM on the bundled encoder"


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods that there are."""
    return METHODS


def model(
    card: ModelCard,
    weights: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> WsiSamModel:
    """Make a prompt model of the weights of all parts."""
    return load_wsi_sam(card, divided(weights, Path(source)), weights_hash, device, say)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> WsiSamTrainable:
    """Return WSI-SAM as it is trained."""
    return WsiSamTrainable(card, divided(weights, Path(card.name)), method)


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return two decoders with the base's SAM in them."""
    found = detect(shapes(base))
    if (found.decoder, found.variant) not in PARTS["wsi-sam"]["encoder"]:
        return None
    return {part: fresh_decoder(base) for part in ("high", "low")}


def save_part(
    part: str, state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str]
) -> None:
    """Write one of the two decoders, see `napari_histosam.models.families.WritesParts`."""
    save_decoder(state, part, path, labels=labels)
