"""A detector of DES-SAM whose file has no masks, together with the SAM that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.checkpoint import read_checkpoint, shapes
from napari_histosam.models.des_sam.load import completed, fitting, lacks_masks
from napari_histosam.models.detect import detect
from napari_histosam.models.files import file_hash
from napari_histosam.models.naming import slug_of
from napari_histosam.models.trained import write_trained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

DECODER, _SAM = "des-sam", "sam-vit-b"


def with_masks(paths: Sequence[Path]) -> tuple[dict[str, Tensor], str]:
    """Return the weights of a detector and a SAM, in whatever order, and the detector's name.

    Raises
    ------
    InputError
        If they are not one of each, or do not fit each other.
    """
    states = {path: read_checkpoint(path) for path in paths}
    kinds = {path: detect(shapes(state)).decoder for path, state in states.items()}
    own = [path for path, kind in kinds.items() if kind == DECODER]
    sams = [path for path, kind in kinds.items() if kind == "sam"]
    if len(own) != 1 or len(sams) != 1:
        raise InputError(
            f"{' and '.join(path.name for path in paths)} are not a DES-SAM and the SAM that it "
            "was trained on: give these two, or one whole checkpoint."
        )
    state = completed(states[own[0]], states[sams[0]], sams[0].name)
    return state, own[0].name


def take_in_detector(
    paths: Sequence[Path], folder: Path, cards: Mapping[str, ModelCard], name: str | None = None
) -> ModelCard | None:
    """Import a detector without masks as a whole model; None if a single file is whole.

    The SAM is the other file, or the published one if it lies in the folder.

    Raises
    ------
    InputError
        If there is no SAM, it does not fit, or the name is taken.
    """
    paths = list(paths)
    if len(paths) == 1:
        if not lacks_masks(read_checkpoint(paths[0])):
            return None
        sam = cards.get(_SAM)
        if sam is not None and (folder / sam.files[0].name).is_file():
            paths.append(folder / sam.files[0].name)
    if len(paths) == 1:
        fitting(shapes(read_checkpoint(paths[0])), paths[0].name)  # says what is lacking
    state, source = with_masks(paths)
    fitting(shapes(state), source)
    return add_model(
        state,
        folder,
        cards,
        slug_of(name if name is not None else paths[0].stem),
        title=f"{source}, DES-SAM, with the masks of a SAM",
        note="Imported by the user; what it was trained on and its licence are unknown.",
    )


def add_model(
    state: Mapping[str, Tensor],
    folder: Path,
    cards: Mapping[str, ModelCard],
    name: str,
    title: str,
    note: str,
    classes: tuple[str, ...] = (),
) -> ModelCard:
    """Write weights under upstream's names into the weights folder, with a card; return it.

    Raises
    ------
    InputError
        If the name is taken.
    """
    if name in cards or any(name in card.aliases for card in cards.values()):
        raise InputError(f"The name {name} is taken by another model: give another one.")
    path = folder / f"{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    whole = {k: v.detach().clone().contiguous() for k, v in state.items()}
    write_trained(path, whole, {"decoder": DECODER})
    known = f"sha256:{file_hash(path)}"
    card = replace(
        cards[DECODER],
        name=name,
        title=title,
        licence="none stated",
        aliases=(),
        files=(WeightFile(path.name, None, path.stat().st_size, known),),
        note=note,
        classes=classes or cards[DECODER].classes,
    )
    write_card(card, folder / f"{name}.json")
    return card
