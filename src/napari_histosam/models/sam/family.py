"""SAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.sam.beginning import fresh_sam
from napari_histosam.models.sam.build import SIDE, load_sam
from napari_histosam.models.sam.load import sam_model as model
from napari_histosam.models.sam.trainable import SamTrainable, methods_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

__all__ = ["fresh", "methods", "model", "trainable"]

BASES = "histosam-small"


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods that a SAM of the card's size has."""
    return methods_for(card.variant)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> SamTrainable:
    """Return a SAM as it is trained."""
    return SamTrainable(card, load_sam(weights, card.name, card.variant), method)


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return a SAM behind the bundled encoder."""
    suits = detect(shapes(base)).decoder == "histosam-small" and side == SIDE
    return {"": fresh_sam(base)} if suits else None
