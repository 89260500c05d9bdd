"""Writes a model in upstream's own layout: as one plain file, or as the files of its own parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.catalog import card_to_dict
from napari_histosam.models.families import WritesParts, family
from napari_histosam.models.files import atomic_file, atomic_folder, write_bytes_atomic
from napari_histosam.models.parts import SETTINGS, TRAVELLING, divided, is_manifold, own_parts
from napari_histosam.models.trained import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.registry import ModelRegistry

_FILE_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")


def check_export(card: ModelCard, path: Path) -> None:
    """Raise InputError if a model cannot be written to a path, as far as can be told before.

    One of several files goes into a new or empty folder, any other one into a file.
    """
    if not is_manifold(card):
        if path.is_dir():
            raise InputError(f"{path} is a folder: name the file that {card.name} is to become.")
        return
    if not isinstance(family(card.decoder), WritesParts):
        raise InputError(
            f"{card.name} consists of several files and cannot be exported: copy them from the "
            "weights folder instead."
        )
    if path.suffix.lower() in _FILE_SUFFIXES or path.is_file():
        raise InputError(
            f"{card.name} consists of several files, which {path.name} cannot hold: name a folder."
        )
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} holds something already: name a new or an empty folder.")


def export(registry: ModelRegistry, name: str, path: Path) -> list[Path]:
    """Write a model as upstream's own loaders take it; return the paths of its files.

    One file holds all weights: ``.safetensors`` as such, every other suffix as a torch file with
    the bare state dict. Adapters that upstream does not know (Mona) are kept beside its names.

    Of a model of several files, its family's own are written into the folder ``path``, all or
    none; the encoder that they stand on is nobody's but SAM's and stays as it was published. What
    weights do not tell, such as the window's side, lies beside them as a text.

    Raises
    ------
    InputError
        If the model has no weights, they cannot be read, or the path will not do.
    HistosamError
        If something cannot be written.
    """
    card = registry.get(name)
    check_export(card, path)
    weights = weights_of(registry, name)
    if is_manifold(card):
        return _parts(registry, card, weights, path)
    state = {k: v.contiguous() for k, v in weights.items()}
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import save

        write_bytes_atomic(path, save(state))
    else:
        import torch

        with atomic_file(path) as out:
            torch.save({k: v.clone() for k, v in state.items()}, out)
    return [path]


def _parts(
    registry: ModelRegistry, card: ModelCard, weights: Mapping[str, Tensor], path: Path
) -> list[Path]:
    entries = {entry.part: entry for entry in registry.get(card.decoder).files}
    told = card_to_dict(card)
    known = {key: told[key] for key in TRAVELLING if key in told}
    labels = {SETTINGS: json.dumps({**known, "mpp": card.mpp})}
    writer = family(card.decoder)
    assert isinstance(writer, WritesParts)  # see `check_export`
    with atomic_folder(path) as folder:
        names = []
        for name, part in divided(weights, path).items():
            if name in own_parts(card.decoder):
                state = {key: value.clone() for key, value in part.state.items()}
                names.append(entries[name].name)
                writer.save_part(name, state, folder / names[-1], labels)
    return [path / name for name in names]
