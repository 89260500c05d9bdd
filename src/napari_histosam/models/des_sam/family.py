"""DES-SAM's entry in `napari_histosam.models.families`."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.des_sam.finding import Settings
from napari_histosam.models.des_sam.load import fresh as begun
from napari_histosam.models.des_sam.load import has_token, network
from napari_histosam.models.des_sam.model import DesSamModel
from napari_histosam.models.des_sam.trainable import METHODS, DesSamTrainable
from napari_histosam.models.detect import detect
from napari_histosam.models.devices import choose_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

_log = logging.getLogger(__name__)

BASES = "any SAM"


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
) -> DesSamModel:
    """Make a model of its weights; see `settings_for`."""
    tell = say or _log.info
    net = network(weights, source)
    settings = settings_for(card, weights)
    if not settings.token:
        tell(f"{source} has no learned token: its masks are those of the SAM inside.")
    chosen = choose_device(device)
    tell(chosen.message)
    card = with_classes(card, net.box_head.classes)
    return DesSamModel(card, net, weights_hash, chosen.name, say, settings)


def trainable(card: ModelCard, weights: Mapping[str, Tensor], method: str) -> DesSamTrainable:
    """Return DES-SAM as it is trained, for the card's classes."""
    return DesSamTrainable(card, network(weights, card.name), method)


def fresh(base: Mapping[str, Tensor], side: int) -> dict[str, dict[str, Tensor]] | None:
    """Return a detector of one class on a SAM's encoder, with the SAM's masks."""
    if detect(shapes(base)).decoder != "sam":
        return None
    return {"": begun(base)}


def settings_for(card: ModelCard, weights: Mapping[str, Tensor]) -> Settings:
    """Return how a model is used.

    Published weights get their authors' threshold for masks. One that was trained here gets 0,
    at which its targets were made; theirs would draw it too tight.
    """
    at = Settings.mask_logit if card.trained is None else 0.0
    return Settings(mask_logit=at, token=has_token(weights))


def with_classes(card: ModelCard, count: int) -> ModelCard:
    """Return a card that names as many classes as a network has."""
    if len(card.classes) == count:
        return card
    names = tuple(f"Nucleus {number}" for number in range(1, count + 1))
    return replace(card, classes=names if count > 1 else ("Nucleus",))
