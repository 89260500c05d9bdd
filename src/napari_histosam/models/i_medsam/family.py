"""I-MedSAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.i_medsam.load import fresh_adapted, load_i_medsam, save_adapted
from napari_histosam.models.i_medsam.trainable import METHODS, IMedSamTrainable
from napari_histosam.models.parts import PARTS, divided
from napari_histosam.models.sam.build import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.i_medsam.model import IMedSamModel
    from napari_histosam.models.trainable import Method

BASES = "SAM's ViT-B or a SAM on the bundled encoder"


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods that there are: the bundled encoder has no ViT to adapt."""
    return METHODS if card.variant != BUNDLED else ("decoder",)


def model(
    card: ModelCard,
    weights: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> IMedSamModel:
    """Make a prompt model of the weights of all parts."""
    return load_i_medsam(card, divided(weights, Path(source)), weights_hash, device, say)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> IMedSamTrainable:
    """Return I-MedSAM as it is trained."""
    return IMedSamTrainable(card, divided(weights, Path(card.name)), method)


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return a decoder with the base's SAM in it, and updates that change nothing yet."""
    found = detect(shapes(base))
    if (found.decoder, found.variant) not in PARTS["i-medsam"]["encoder"]:
        return None
    return {"adapted": fresh_adapted(base, side)}


def save_part(
    part: str, state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str]
) -> None:
    """Write the checkpoint, see `napari_histosam.models.families.WritesParts`."""
    save_adapted(state, path, labels=labels)
