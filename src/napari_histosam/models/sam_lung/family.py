"""SAM-Lung's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.sam.build import BUNDLED
from napari_histosam.models.sam_lung.frame import bundled_card
from napari_histosam.models.sam_lung.load import fresh as begun
from napari_histosam.models.sam_lung.load import network_of
from napari_histosam.models.sam_lung.load import sam_lung_model as model
from napari_histosam.models.sam_lung.trainable import SamLungTrainable, methods_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

__all__ = ["fresh", "methods", "model", "new_card", "trainable"]

BASES = "SAM's ViT-B or a SAM on the bundled encoder"


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods that there are: the bundled encoder has no ViT to adapt."""
    return methods_for(card)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> SamLungTrainable:
    """Return SAM-Lung as it is trained, for the card's classes."""
    return SamLungTrainable(card, network_of(card, weights, card.name), method)


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return adapters and decoder at random, with the base's encoder."""
    found = detect(shapes(base))
    if found.decoder != "sam" or found.variant not in ("vit_b", BUNDLED):
        return None
    return {"": begun(base)}


def new_card(card: ModelCard) -> ModelCard:
    """Return the card of one that begins here."""
    return bundled_card(card) if card.variant == BUNDLED else card
