"""EP-SAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.ep_sam.load import fresh as begun
from napari_histosam.models.ep_sam.load import load_ep_sam
from napari_histosam.models.ep_sam.load import save_part as written
from napari_histosam.models.parts import PARTS, divided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.ep_sam.model import EpSamModel
    from napari_histosam.models.trainable import Method, Trainable

BASES = "SAM's ViT-B or a SAM on the bundled encoder"
LEARNS = "patches"


def methods(card: ModelCard) -> tuple[Method, ...]:
    """Return none: it learns from labels of patches, see `napari_histosam.train.patchwise`."""
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


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return a classifier at random, and the base's own decoder."""
    found = detect(shapes(base))
    if (found.decoder, found.variant) not in PARTS["ep-sam"]["encoder"]:
        return None
    return dict(begun(base))


def new_card(card: ModelCard) -> ModelCard:
    """Return the card of one that begins here, without the quirks of the authors' files."""
    return replace(card, recipe={**card.recipe, "channel_order": "rgb", "points_frame": "sam"})


def save_part(
    part: str, state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str]
) -> None:
    """Write the classifier or the decoder, see `napari_histosam.models.families.WritesParts`."""
    written(state, path, labels)
