"""Makes a new, untrained model of a family on a base that is on this machine.

Some families have no published weights, or none that an offline machine can get: their models begin
here, and learn in the *Learn* tab or by ``histosam train``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.families import (
    Begins,
    CardsAnew,
    beginners,
    family,
    has_weights,
)
from napari_histosam.models.files import file_hash, write_bytes_atomic
from napari_histosam.models.naming import slug_of
from napari_histosam.models.parts import ROLE
from napari_histosam.models.trained import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.registry import ModelRegistry

_ENCODER = "encoder"


def begin(registry: ModelRegistry, decoder: str, base: str, name: str) -> ModelCard:
    """Put an untrained model among the user's models.

    Parameters
    ----------
    registry : ModelRegistry
    decoder : str
        The family.
    base : str
        Name of the model whose weights it begins with.
    name : str
        Of the new model.

    Returns
    -------
    ModelCard
        Its note says that it has learned nothing yet.

    Raises
    ------
    InputError
        If the family cannot begin, the base does not suit it or is not here, or the name is taken.
    """
    begins: object = family(decoder) if has_weights(decoder) else None
    if not isinstance(begins, Begins):
        raise InputError(f"No model of {decoder!r} can be made: choose {', '.join(beginners())}.")
    slug, cards = slug_of(name), registry.cards()
    if slug in cards or any(slug in card.aliases for card in cards.values()):
        raise InputError(f"The name {slug} is taken: give the new model another one.")
    under = registry.get(base)
    pattern = next(
        (card for card in cards.values() if card.decoder == decoder and card.trained is None), None
    )
    if pattern is None:
        raise InputError(f"The card of {decoder} is missing: install the package again.")
    if not registry.is_ready(under.name):
        raise InputError(f"{under.name} is not on this machine: choose a base that is.")
    weights = weights_of(registry, under.name)
    fresh = begins.fresh(weights, pattern.window_px)
    if fresh is None:
        raise InputError(
            f"{under.name} cannot be the base of a model of {decoder}: choose {begins.BASES}."
        )
    files = []
    if any(entry.part == _ENCODER for entry in pattern.files):
        files.append(_encoder(registry, under, weights, slug))
    for part, state in fresh.items():
        target = registry.folder / f"{slug}{f'-{part}' if part else ''}.safetensors"
        files.append(_written(target, state, part))
    first = decoder == "sam"
    card = replace(
        pattern,
        name=slug,
        title=f"{pattern.title.split(':')[0] if not first else 'SAM'} on {under.name}, untrained",
        licence=under.licence,
        files=tuple(files),
        aliases=(),
        variant="bundled" if first or under.variant == "bundled" else pattern.variant,
        page="",
        note=f"Made here from {under.name}; what it adds has learned nothing yet, so train it "
        "before you use it.",
    )
    if isinstance(begins, CardsAnew):
        card = begins.new_card(card)
    write_card(card, registry.folder / f"{slug}.json")
    return card


def _encoder(
    registry: ModelRegistry, base: ModelCard, weights: Mapping[str, Tensor], slug: str
) -> WeightFile:
    """Return the base's own file as a part, or one that holds what a trained base amounts to."""
    if base.trained is None and len(base.files) == 1:
        (path,) = registry.files(base.name)
        sha = f"sha256:{registry.sha256(path)}"
        return replace(base.files[0], part=_ENCODER, hash=sha, bytes=path.stat().st_size)
    return _written(registry.folder / f"{slug}-{_ENCODER}.safetensors", weights, _ENCODER)


def _written(path: Path, state: Mapping[str, Tensor], part: str) -> WeightFile:
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_bytes_atomic(path, save(plain, metadata={ROLE: part} if part else None))
    return WeightFile(path.name, None, path.stat().st_size, f"sha256:{file_hash(path)}", part)
