"""SAM-Lung's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.sam_lung.load import sam_lung_model as model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method, Trainable

__all__ = ["methods", "model", "trainable"]


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return none: the loop that there is trains by objects and prompts, not by regions."""
    return ()


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> Trainable:
    """Refuse; see `methods`."""
    raise InputError(f"{card.name} cannot be trained from single objects: choose another model.")
