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

FINDING = {
    "boxes": (
        "Boxes only (quick to label)",
        "Learns where objects lie, and outlines by what SAM makes of each box and by the colours "
        "in it; no outline of yours is looked at",
    ),
    "decoder": (
        "Boxes and outlines",
        "Learns where objects lie, and their outlines as you drew them",
    ),
}
"""The same of models that find objects by themselves."""


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

    def said(self, method: str) -> tuple[str, str]:
        """Return a method's title and explanation."""
        known = FINDING if self.card.finds == "objects" else METHODS
        return known.get(method, (method, ""))


def bases(registry: ModelRegistry) -> list[Base]:
    """Return the models whose weights are here and that offer to be trained.

    Heavy at the first call, since it asks the networks: not for the window's thread.
    """
    from napari_histosam.models.trained import methods_of

    found = []
    for card in registry.cards().values():
        if not card.files or not registry.is_ready(card.name) or registry.needs_consent(card.name):
            continue
        methods: list[str] = list(methods_of(card))
        if methods and card.finds == "objects":
            methods = list(FINDING)
        if methods:
            found.append(Base(card, tuple(methods)))
    # What was made here last is what one goes on with.
    return sorted(found, key=lambda one: one.card.trained is None)
