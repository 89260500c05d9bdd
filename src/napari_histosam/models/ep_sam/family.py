"""EP-SAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.ep_sam.load import load_ep_sam
from napari_histosam.models.parts import divided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.ep_sam.model import EpSamModel
    from napari_histosam.models.trainable import Method, Trainable


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return none: the loop that there is trains by objects and prompts, not by patches."""
    return ()


def model(
    card: ModelCard,
    weights: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> EpSamModel:
    """Make a region model of the weights of all parts."""
    return load_ep_sam(card, divided(weights, Path(source)), weights_hash, device, say)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> Trainable:
    """Refuse; see `methods`."""
    raise InputError(f"{card.name} cannot be trained from single objects: choose another model.")
