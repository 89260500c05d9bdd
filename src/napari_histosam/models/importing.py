"""Takes a user's checkpoint into the weights folder: recognised, copied whole, with a card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import ModelCard, WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.checkpoint import read_checkpoint, shapes
from napari_histosam.models.detect import Detected, detect
from napari_histosam.models.files import copy_atomic, file_hash
from napari_histosam.models.graphics import keep_compiler_out
from napari_histosam.models.importing_parts import take_in_parts
from napari_histosam.models.naming import slug_of, suffix_of
from napari_histosam.models.parts import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SMALL, _DES_SAM, _LUNG = "histosam-small", "des-sam", "sam-lung"
_BUNDLED = "bundled"
_SUPPORTED = ("sam", _SMALL, _DES_SAM, _LUNG)


def take_in(
    paths: Sequence[Path], folder: Path, cards: Mapping[str, ModelCard], name: str | None = None
) -> ModelCard:
    """Import a checkpoint, or the parts of a model that consists of several.

    Parameters
    ----------
    paths : sequence of Path
        The user's files; they stay where they are.
    folder : Path
        The weights folder to copy to.
    cards : mapping of str to ModelCard
        The models that are known already.
    name : str, optional

    Returns
    -------
    ModelCard
        The published model's card if the file is its file, by hash, or by name where no hash is
        published; else a new one.

    Raises
    ------
    InputError
        If a file cannot be used, or the name is taken by other weights.
    """
    keep_compiler_out()
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is no file: check the path.")
    kinds = [detect(shapes(read_checkpoint(path))) for path in paths]
    if any(kind.decoder == _DES_SAM for kind in kinds):
        from napari_histosam.models.des_sam.files import take_in_detector

        made = take_in_detector(paths, folder, cards, name)
        if made is not None:
            return made
    families = {kind.decoder for kind in kinds if kind.decoder in PARTS}
    wanted = cards.get(name or "")
    if wanted is not None and wanted.decoder in PARTS:
        families.add(wanted.decoder)
    if families or len(paths) > 1:
        if len(families) != 1:
            raise InputError(
                f"{' and '.join(path.name for path in paths)} are not the parts of one model: "
                "import them one by one."
            )
        return take_in_parts(paths, str(families.pop()), folder, cards, name)
    (path,) = paths
    found = _recognise(path)
    sha = f"sha256:{file_hash(path)}"
    known = _published(path, sha, found, cards, name)
    if known is not None:
        copy_atomic(path, folder / known.files[0].name)
        return known
    card = _new_card(path, sha, found, cards, name)
    if card.name not in cards:
        copy_atomic(path, folder / card.files[0].name)
        write_card(card, folder / f"{card.name}.json")
    return card


def _recognise(path: Path) -> Detected:
    state = read_checkpoint(path)
    found = detect(shapes(state))
    if found.decoder not in _SUPPORTED:
        first = ", ".join(list(state)[:3])
        use = "import a SAM, MobileSAM, MedSAM or PathoSAM checkpoint"
        if found.decoder is not None:
            use = f"it needs the decoder {found.decoder}, which this version does not have"
        raise InputError(f"{path.name} looks like {found.what} (it begins with {first}): {use}.")
    # Building it is the only way to know that every part is there and has the right shape.
    if found.decoder == _SMALL:
        from napari_histosam.models.small.load import filled_net

        filled_net(state, path.name)
        return found
    if found.decoder == _DES_SAM:
        from napari_histosam.models.des_sam.load import fitting

        fitting(shapes(state), path.name)
        return found
    if found.decoder == _LUNG:
        from napari_histosam.models.sam_lung.load import fitting as fitting_lung
        from napari_histosam.models.sam_lung.load import on_bundled, whole

        full = whole(state, path.name)
        fitting_lung(shapes(full), path.name)
        return Detected(_LUNG, _BUNDLED if on_bundled(full) else None, found.what)
    from napari_histosam.models.sam.build import fitting_sam

    assert found.variant is not None  # a SAM is recognised by it
    fitting_sam(shapes(state), path.name, found.variant)
    return found


def _published(
    path: Path, sha: str, found: Detected, cards: Mapping[str, ModelCard], name: str | None
) -> ModelCard | None:
    for card in cards.values():
        if len(card.files) != 1 or (card.decoder, card.variant) != (found.decoder, found.variant):
            continue
        entry = card.files[0]
        if entry.hash is not None and entry.hash.startswith("xxh128:"):
            same = entry.hash == f"xxh128:{file_hash(path, 'xxh128')}"
        elif entry.hash is not None:
            same = entry.hash == sha
        else:
            same = name == card.name or (name is None and path.name == entry.name)
        if same and name in (None, card.name):
            return card
    return None


def _new_card(
    path: Path, sha: str, found: Detected, cards: Mapping[str, ModelCard], name: str | None
) -> ModelCard:
    slug = slug_of(name if name is not None else path.stem)
    taken = cards.get(slug) or next((c for c in cards.values() if slug in c.aliases), None)
    if taken is not None:
        if [entry.hash for entry in taken.files] == [sha]:
            return taken
        if name is not None:
            raise InputError(
                f"The name {slug} is taken by other weights: give another name to {path.name}."
            )
        slug = f"{slug}-{sha.removeprefix('sha256:')[:8]}"
        if slug in cards:
            return cards[slug]
    files = (WeightFile(f"{slug}{suffix_of(path)}", None, path.stat().st_size, sha),)
    if found.decoder in (_SMALL, _DES_SAM, _LUNG):
        pattern = cards[found.decoder]
        if found.decoder == _LUNG and found.variant == _BUNDLED:
            from napari_histosam.models.sam_lung.frame import bundled_card

            pattern = bundled_card(pattern)
        return replace(
            pattern,
            name=slug,
            title=f"{path.name}, {found.what}",
            licence="none stated",
            aliases=(),
            files=files,
            note="Imported by the user; what it was trained on and its licence are unknown.",
        )
    return ModelCard(
        name=slug,
        decoder="sam",
        title=f"{path.name}, {found.what}",
        licence="none stated",
        prompts=("point", "negative", "box", "scribble", "mask"),
        files=files,
        variant=found.variant,
        note="Imported by the user; its licence and the µm/px that it was trained at are unknown.",
    )
