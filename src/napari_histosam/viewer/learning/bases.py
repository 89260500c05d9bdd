"""Which models can be trained here, and by which methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_histosam.models import ModelCard, ModelRegistry

METHODS = {
    "decoder": ("Decoder only (quick)", "What answers the prompts learns; the one to begin with"),
    "lora": ("LoRA", "Small changes all through the encoder, too"),
    "mona": ("Mona adapters", "Small new layers in the encoder, for tissue that looks different"),
    "full": ("Everything (slow)", "The whole network learns; for many objects"),
}
"""Method → title and explanation."""


@dataclass(frozen=True)
class Base:
    """A model that can be trained.

    Parameters
    ----------
    card : ModelCard
    methods : tuple of str
    """

    card: ModelCard
    methods: tuple[str, ...]


def bases(registry: ModelRegistry) -> list[Base]:
    """Return the models whose weights are here and that offer to be trained.

    Heavy at the first call, since it asks the networks: not for the window's thread.
    """
    from napari_histosam.models.trained import methods_of
    from napari_histosam.models.window_trainable import learns_windows

    found = []
    for card in registry.cards().values():
        if not card.files or not registry.is_ready(card.name) or registry.needs_consent(card.name):
            continue
        if learns_windows(card):
            continue  # the tab measures by prompts; `histosam train` trains these
        methods = methods_of(card)
        if methods:
            found.append(Base(card, tuple(methods)))
    # What was made here last is what one goes on with.
    return sorted(found, key=lambda one: one.card.trained is None)
