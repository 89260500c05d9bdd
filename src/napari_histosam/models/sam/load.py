"""From a checkpoint file on disk to a prompt model on a device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_histosam.models.checkpoint import read_checkpoint, shapes
from napari_histosam.models.detect import detect
from napari_histosam.models.devices import choose_device
from napari_histosam.models.sam.build import load_sam
from napari_histosam.models.sam.model import SamModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

_log = logging.getLogger(__name__)


def load_model(
    card: ModelCard,
    path: Path,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> SamModel:
    """Load a SAM checkpoint.

    Parameters
    ----------
    card : ModelCard
    path : Path
    weights_hash : str
        SHA-256 of the file.
    device : str
    say : callable of str, optional
    others : sequence of ModelCard
        Cards that may take the place of ``card`` if the file has another size.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit.
    """
    return sam_model(card, read_checkpoint(path), path.name, weights_hash, device, say, others)


def sam_model(
    card: ModelCard,
    state: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> SamModel:
    """Make a SAM of weights under their published names; see `load_model`."""
    found = detect(shapes(state))
    if found.decoder == "sam" and found.variant != card.variant:
        same = [c for c in others if c.decoder == "sam" and c.variant == found.variant]
        card = same[0] if same else card
    sam = load_sam(state, source, card.variant)
    chosen = choose_device(device)
    (say or _log.info)(chosen.message)
    return SamModel(card, sam, weights_hash, chosen.name, say)
