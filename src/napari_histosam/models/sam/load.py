"""From the weights of a SAM to a prompt model on a device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.devices import choose_device
from napari_histosam.models.sam.build import load_sam
from napari_histosam.models.sam.model import SamModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

_log = logging.getLogger(__name__)


def sam_model(
    card: ModelCard,
    state: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> SamModel:
    """Make a SAM of weights under their published names.

    Arguments as `napari_histosam.models.families.Family.model` has them.
    """
    found = detect(shapes(state))
    if found.decoder == "sam" and found.variant != card.variant:
        same = [c for c in others if c.decoder == "sam" and c.variant == found.variant]
        card = same[0] if same else card
    sam = load_sam(state, source, card.variant)
    chosen = choose_device(device)
    (say or _log.info)(chosen.message)
    return SamModel(card, sam, weights_hash, chosen.name, say)
