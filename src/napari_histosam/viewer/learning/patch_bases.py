"""What can be taught by patch labels: EP-SAM models that are here, and new ones on a SAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_histosam.models import ModelCard, ModelRegistry

DECODER = "ep-sam"
_UNDER, _BUNDLED = "sam", "histosam-small"


@dataclass(frozen=True)
class PatchBase:
    """A model that can be taught by patch labels.

    Parameters
    ----------
    title : str
        For the list.
    model : str
        Its name; empty for one that is yet to be made.
    base : str
        The SAM, or the bundled model, that a new one is made on; empty otherwise.
    size : int
        Side of its patches in px.
    mpp : float or None
        Their usual µm per px.
    trained : bool
        Whether it has been taught before, so that it can show heat.
    """

    title: str
    model: str
    base: str
    size: int
    mpp: float | None
    trained: bool = False

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return self.model or f"new:{self.base}"

    @property
    def side(self) -> float | None:
        """The side of a patch in µm that suits it."""
        return None if self.mpp is None else self.mpp * self.size


def patch_bases(registry: ModelRegistry) -> list[PatchBase]:
    """Return what can be taught by patch labels, what was taught here first."""
    cards = registry.cards()
    pattern = next((card for card in cards.values() if card.decoder == DECODER), None)
    if pattern is None:
        return []
    ready = [card for card in cards.values() if _ready(registry, card)]
    found = [
        PatchBase(card.name, card.name, "", card.window_px, card.mpp, card.trained is not None)
        for card in ready
        if card.decoder == DECODER
    ]
    found.sort(key=lambda one: not one.trained)
    # The SAM that was made on the way to an earlier one is no other choice than the model below it.
    made = sam_on(_BUNDLED)
    under = [
        card
        for card in ready
        if card.decoder == _UNDER and card.variant in ("vit_b", "bundled") and card.name != made
    ]
    if not any(card.variant == "bundled" for card in under):
        # Nobody needs to download anything: a SAM is made on the bundled encoder first.
        under += [card for card in ready if card.decoder == _BUNDLED and card.trained is None]
    return found + [
        PatchBase(f"New EP-SAM on {card.name}", "", card.name, pattern.window_px, pattern.mpp)
        for card in under
    ]


def sam_on(base: str) -> str:
    """Return the name of the SAM that is made on the bundled encoder."""
    return f"{_UNDER}-on-{base}"


def _ready(registry: ModelRegistry, card: ModelCard) -> bool:
    if card.decoder not in (DECODER, _UNDER, _BUNDLED) or not card.files:
        return False
    return registry.is_ready(card.name) and not registry.needs_consent(card.name)
