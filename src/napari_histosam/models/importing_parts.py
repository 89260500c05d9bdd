"""Takes the files of a model that consists of several into the weights folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.files import copy_atomic, file_hash
from napari_histosam.models.naming import slug_of, suffix_of
from napari_histosam.models.parts import check_part, joint_hash, read_part, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_histosam.models.cards import ModelCard


def take_in_parts(
    paths: Sequence[Path],
    decoder: str,
    folder: Path,
    cards: Mapping[str, ModelCard],
    name: str | None = None,
) -> ModelCard:
    """Import parts of one model.

    Without a name, or under that of the published model, the parts go to its places, also one by
    one, unless they are not what is published (as far as that is known), say that they want
    another window, or a place holds another file already. Then, and under a new name, they become
    a model of their own, for which all parts but the published ones have to be given together.

    Parameters
    ----------
    paths : sequence of Path
    decoder : str
        The family, see `napari_histosam.models.parts.PARTS`.
    folder : Path
    cards : mapping of str to ModelCard
    name : str, optional

    Raises
    ------
    InputError
        If a file is no part, a part is given twice or is missing, or the name is taken.
    """
    published = cards.get(decoder)
    if published is None or not published.files:
        raise InputError(f"The card of {decoder} is missing: install the package again.")
    given: dict[str, Path] = {}
    for path in paths:
        part = read_part(decoder, path)
        if part.name in given:
            raise InputError(
                f"{given[part.name].name} and {path.name} are both the part {part.name!r} of "
                f"{decoder}: give each part once."
            )
        check_part(decoder, part)
        given[part.name] = path
    hashes = {part: f"sha256:{file_hash(path)}" for part, path in given.items()}
    if len(set(hashes.values())) != len(hashes):
        raise InputError(f"Two of the files hold the same weights: bring each part of {decoder}.")
    entries = {entry.part: entry for entry in published.files}
    own = [n for n in given if not _fits(entries[n], hashes[n], folder)]
    told = {key: v for path in given.values() for key, v in settings_of(path).items()}
    known = {key: getattr(published, key) for key in told}
    if name in (None, published.name) and not own and told == known:
        for place, path in given.items():
            copy_atomic(path, folder / entries[place].name)
        return published
    return _new_model(replace(published, **told), given, hashes, folder, cards, name)


def _fits(entry: WeightFile, sha: str, folder: Path) -> bool:
    """Tell whether a file may take a published one's place."""
    if entry.hash is not None:
        return entry.hash == sha
    there = folder / entry.name
    return not there.is_file() or f"sha256:{file_hash(there)}" == sha


def _new_model(
    published: ModelCard,
    given: Mapping[str, Path],
    hashes: Mapping[str, str],
    folder: Path,
    cards: Mapping[str, ModelCard],
    name: str | None,
) -> ModelCard:
    missing = [e for e in published.files if e.part not in given and e.hash is None]
    if missing:
        raise InputError(
            f"{', '.join(path.name for path in given.values())} is not the whole of a model of "
            f"its own: give it together with its {' and '.join(e.part for e in missing)} part "
            f"(the like of {' and '.join(e.name for e in missing)})."
        )
    joint = joint_hash(published, [hashes.get(e.part) or e.hash or "" for e in published.files])
    slug = slug_of(name) if name is not None else f"{published.name}-{joint[:8]}"
    files = tuple(
        WeightFile(
            f"{slug}-{e.part}{suffix_of(given[e.part])}",
            None,
            given[e.part].stat().st_size,
            hashes[e.part],
            e.part,
        )
        if e.part in given and hashes[e.part] != e.hash
        else e
        for e in published.files
    )
    taken = cards.get(slug) or next((c for c in cards.values() if slug in c.aliases), None)
    if taken is not None:
        if [entry.hash for entry in taken.files] == [entry.hash for entry in files]:
            return taken
        raise InputError(f"The name {slug} is taken by other weights: give another name.")
    card = replace(
        published,
        name=slug,
        title=f"{published.title.split(':')[0]}, from {', '.join(p.name for p in given.values())}",
        files=files,
        aliases=(),
        note="Imported by the user; its licence and the tissue that it was trained on are unknown.",
    )
    for entry in files:
        if entry.part in given:
            copy_atomic(given[entry.part], folder / entry.name)
    write_card(card, folder / f"{slug}.json")
    return card
