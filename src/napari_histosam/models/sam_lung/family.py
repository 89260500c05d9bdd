"""SAM-Lung's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.sam.build import BUNDLED, PIXEL_MEAN, PIXEL_STD
from napari_histosam.models.sam_lung.load import fresh as begun
from napari_histosam.models.sam_lung.load import sam_lung_model as model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method, Trainable

__all__ = ["fresh", "methods", "model", "new_card", "trainable"]

BASES = "SAM's ViT-B or a SAM on the bundled encoder"
# The bundled encoder looks at less at a time, and knows its pixels scaled as SAM has them.
_SIDE = 512
_SCALED = {"mean": [v / 255 for v in PIXEL_MEAN], "std": [v / 255 for v in PIXEL_STD]}


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return none: the loop that there is trains by objects and prompts, not by regions."""
    return ()


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> Trainable:
    """Refuse; see `methods`."""
    raise InputError(f"{card.name} cannot be trained from single objects: choose another model.")


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return adapters and decoder at random, with the base's encoder."""
    found = detect(shapes(base))
    if found.decoder != "sam" or found.variant not in ("vit_b", BUNDLED):
        return None
    return {"": begun(base)}


def new_card(card: ModelCard) -> ModelCard:
    """Return the card of one that begins here."""
    if card.variant != BUNDLED:
        return card
    return replace(card, window_px=_SIDE, recipe={**card.recipe, **_SCALED})
