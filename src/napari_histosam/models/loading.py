"""From the weight files of a card to a model of the card's family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.models.parts import check_part, is_manifold, joined, joint_hash, read_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import PromptModel


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
        In the order of the card's files. Of DES-SAM, whose published detectors may come without
        the part that draws masks, also two: the detector and the SAM that it was trained on.
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
    from napari_histosam.models.families import family

    if is_manifold(card):
        parts, known = read_parts(card, paths, hashes), joint_hash(card, hashes)
        for part in parts.values():
            check_part(card.decoder, part)
        weights, source = joined(parts), card.name
    elif len(paths) > 1:
        from napari_histosam.models.des_sam.files import with_masks

        weights, source = with_masks(paths)
        known = joint_hash(card, hashes)
    else:
        from napari_histosam.models.checkpoint import read_checkpoint

        (path,), (known,) = paths, hashes
        weights, source = read_checkpoint(path), path.name
    return family(card.decoder).model(card, weights, source, known, device, say, others)
