"""I-MedSAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.models.i_medsam.load import load_i_medsam, save_adapted
from napari_histosam.models.i_medsam.trainable import METHODS, IMedSamTrainable
from napari_histosam.models.parts import divided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.i_medsam.model import IMedSamModel
    from napari_histosam.models.trainable import Method


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
) -> IMedSamModel:
    """Make a prompt model of the weights of all parts."""
    return load_i_medsam(card, divided(weights, Path(source)), weights_hash, device, say)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> IMedSamTrainable:
    """Return I-MedSAM as it is trained."""
    return IMedSamTrainable(card, divided(weights, Path(card.name)), method)


def save_part(
    part: str, state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str]
) -> None:
    """Write the checkpoint, see `napari_histosam.models.families.WritesParts`."""
    save_adapted(state, path, labels=labels)
