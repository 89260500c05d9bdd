"""The bundled network's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.models.small.load import filled_net
from napari_histosam.models.small.load import small_model as model
from napari_histosam.models.small.trainable import METHODS, SmallTrainable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

__all__ = ["methods", "model", "trainable"]


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods that there are."""
    return METHODS


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> SmallTrainable:
    """Return the bundled network as it is trained."""
    return SmallTrainable(card, filled_net(weights, card.name), method)
