"""From the weight files of a card to a model of the card's family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import PromptModel

DECODERS = ("classical", "sam", "histosam-small", "wsi-sam", "i-medsam")


def check_decoder(card: ModelCard) -> None:
    """Raise InputError if this version does not have a card's decoder."""
    if card.decoder not in DECODERS:
        raise InputError(
            f"{card.name} needs the decoder {card.decoder}, which this version does not have: "
            "update napari-histosam."
        )


def load_files(
    card: ModelCard,
    paths: Sequence[Path],
    hashes: Sequence[str],
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> PromptModel:
    """Load a model.

    Parameters
    ----------
    card : ModelCard
        Of a decoder with weights.
    paths : sequence of Path
        In the order of the card's files.
    hashes : sequence of str
        SHA-256 of each.
    device : str
    say : callable of str, optional
    others : sequence of ModelCard
        Cards that may take the place of ``card`` if a SAM file has another size.

    Raises
    ------
    InputError
        If a file cannot be read or does not fit.
    """
    if card.decoder == "sam":
        from napari_histosam.models.sam.load import load_model

        return load_model(card, paths[0], hashes[0], device, say, others)
    if card.decoder == "histosam-small":
        from napari_histosam.models.small.load import load_small

        return load_small(card, paths[0], hashes[0], device, say)
    from napari_histosam.models.parts import joint_hash, read_parts

    parts, joint = read_parts(card, paths, hashes), joint_hash(card, hashes)
    if card.decoder == "wsi-sam":
        from napari_histosam.models.wsi_sam.load import load_wsi_sam

        return load_wsi_sam(card, parts, joint, device, say)
    from napari_histosam.models.i_medsam.load import load_i_medsam

    return load_i_medsam(card, parts, joint, device, say)
