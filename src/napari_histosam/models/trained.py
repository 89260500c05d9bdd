"""Models that were trained from others: what was trained plus the base make the plain weights.

A trained model's file holds only what was trained, under upstream's names; its card names the base
and the hash of the base's file. Low-rank updates are added to the weights that they belong to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.families import family, has_weights
from napari_histosam.models.files import copy_atomic, write_bytes_atomic
from napari_histosam.models.graphics import keep_compiler_out
from napari_histosam.models.parts import is_manifold, joined, joint_hash, read_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.trainable import Method, Trainable

_DOWN, _UP = ".lora_down", ".lora_up"
# What a model may have been given that its base has not: adapters, SAM-Lung's decoder, EP-SAM's
# classifier.
_ADDED = (
    ".mona1.",
    ".mona2.",
    "mask_decoder.psp_module.",
    "mask_decoder.classifier.",
    "classifier/",
    "decoder/mask_decoder.",
)
_DEEPEST = 8


def plain_state(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], source: str = "the trained file"
) -> dict[str, Tensor]:
    """Return the weights that a base and what was trained on it make together.

    Parameters
    ----------
    base, trained : mapping of str to Tensor
        Under upstream's names; ``trained`` replaces, adds adapters, or updates by low rank.
    source : str
        For messages.

    Raises
    ------
    InputError
        If something was trained that the base does not have.
    """
    out = dict(base)
    for name, value in trained.items():
        if name.endswith(_UP):
            continue
        if name.endswith(_DOWN):
            from napari_histosam.models.sam.lora import merged

            stem = name.removesuffix(_DOWN)
            weight, up = base.get(f"{stem}.weight"), trained.get(f"{stem}{_UP}")
            if weight is None or up is None:
                raise InputError(f"{source} does not fit its base ({name}): train it again.")
            out[f"{stem}.weight"] = merged(weight, value, up)
        elif name in base or any(part in name for part in _ADDED):
            out[name] = value
        else:
            raise InputError(f"{source} does not fit its base ({name}): train it again.")
    return out


def weights_of(registry: ModelRegistry, name: str, deep: int = 0) -> dict[str, Tensor]:
    """Return a model's whole weights under upstream's names, from however many files.

    Where a model consists of several files, ``"part/"`` stands before each name.

    Raises
    ------
    InputError
        If a file is missing, damaged, or not the one that a model was trained from.
    """
    card = registry.get(name)
    if card.trained is None:
        if not card.files:
            raise InputError(f"{card.name} has no weights: choose a model that has.")
        paths = registry.files(card.name)
        if is_manifold(card):
            hashes = list(map(registry.sha256, paths))
            return joined(read_parts(card, paths, hashes))
        (path,) = paths
        return read_checkpoint(path)
    if deep > _DEEPEST:
        raise InputError(f"{card.name} was trained from itself, by its card: remove {card.name}.")
    check_base(registry, card)
    (path,) = registry.files(card.name)
    known = card.files[0].hash
    if known is not None and known != f"sha256:{registry.sha256(path)}":
        raise InputError(
            f"{path} is not what was trained as {card.name} (its hash differs): put that file "
            "back, or train the model again."
        )
    base = weights_of(registry, card.trained.base, deep + 1)
    if is_manifold(card) and not is_manifold(registry.get(card.trained.base)):
        base = {f"encoder/{name}": value for name, value in base.items()}
    return plain_state(base, read_checkpoint(path, strip=False), path.name)


def check_base(registry: ModelRegistry, card: ModelCard) -> None:
    """Raise InputError unless the base of a trained model is here and is what it was."""
    assert card.trained is not None
    base, known = card.trained.base, card.trained.base_hash
    if base not in registry.cards() or not registry.is_ready(base):
        raise InputError(
            f"{card.name} was trained from {base}, whose weights are not on this machine: get "
            f"them with `histosam models download {base}` or `histosam models import FILE`."
        )
    found = base_hash(registry, base)
    if found != known:
        raise InputError(
            f"{card.name} was trained from another file than the {base} that is here (its hash "
            f"is {found[7:19]}… and not {known[7:19]}…): bring that file back, or train again."
        )


def base_hash(registry: ModelRegistry, name: str) -> str:
    """Return ``"sha256:…"`` of a model's own weights file, or of all where there are several."""
    card, paths = registry.get(name), registry.files(name)
    hashes = list(map(registry.sha256, paths))
    return f"sha256:{joint_hash(card, hashes) if len(hashes) > 1 else hashes[0]}"


def load_trained(
    registry: ModelRegistry, card: ModelCard, device: str, say: Callable[[str], None] | None
) -> PromptModel:
    """Load a trained model, see `napari_histosam.models.registry.ModelRegistry.load`."""
    weights = weights_of(registry, card.name)
    (path,) = registry.files(card.name)
    # The own file names its base in its metadata, so its hash stands for both.
    known = registry.sha256(path)
    return family(card.decoder).model(card, weights, path.name, known, device, say)


def methods_of(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods by which a model can be trained; none where it cannot."""
    keep_compiler_out()
    return family(card.decoder).methods(card) if has_weights(card.decoder) else ()


def learns_patches(card: ModelCard) -> bool:
    """Tell whether a model is trained by labels of whole patches, which its family says."""
    keep_compiler_out()
    made = family(card.decoder) if has_weights(card.decoder) else None
    return getattr(made, "LEARNS", None) == "patches"


def check_trainable(card: ModelCard, method: str) -> Method:
    """Return the method if a model can be trained by it.

    Raises
    ------
    InputError
        If it cannot; the sentence names the methods or models that there are.
    """
    from napari_histosam.models.trainable import check_method

    offered = methods_of(card)
    if not offered:
        raise InputError(f"{card.name} cannot be trained: choose another model, such as a SAM.")
    return check_method(card, method, offered)


def build_trainable(registry: ModelRegistry, name: str, method: str) -> Trainable:
    """Return a model as it is trained by a method, on the CPU.

    Raises
    ------
    InputError
        If the model has no such method, cannot be trained, or its weights cannot be read.
    """
    keep_compiler_out()
    card = registry.get(name)
    check_trainable(card, method)
    return family(card.decoder).trainable(card, weights_of(registry, name), method)


def write_trained(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write what was trained as safetensors, atomically; ``about`` becomes its metadata."""
    from safetensors.torch import save

    write_bytes_atomic(path, save(dict(state), metadata=dict(about)))


def keep_trained(registry: ModelRegistry, card: ModelCard, file: Path) -> ModelCard:
    """Put a trained model among the user's models; return its card with the file's hash.

    Parameters
    ----------
    registry : ModelRegistry
    card : ModelCard
        With ``trained``; its ``files`` are filled in here.
    file : Path
        From `write_trained`.

    Raises
    ------
    HistosamError
        If the folder cannot be written; nothing is changed then.
    """
    target = registry.folder / f"{card.name}.safetensors"
    size, digest = copy_atomic(file, target)
    entry = WeightFile(target.name, None, size, f"sha256:{digest}")
    whole = replace(card, files=(entry,))
    write_card(whole, registry.folder / f"{card.name}.json")
    return whole
