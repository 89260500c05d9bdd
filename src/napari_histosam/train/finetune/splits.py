"""Divides a labelled folder into images to learn from and images to judge by, never within a group.

Where the folder names splits, those whose names contain "train" teach, those with "val" are
validated with, and those with "test" stay aside for the verdict. Where it names none, whole groups
(patients, slides, source images) are held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.train.labelled import entries, find_sets, split_names, splits_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.labelled import Entry

# Share of the groups that are held out where the folder does not say which.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Division:
    """What each image of a folder is for.

    Parameters
    ----------
    train, val, test : tuple of Entry
        ``test`` may be empty: then ``val`` gives the verdict, too.
    notes : tuple of str
        What the user should know about it, one sentence each.
    """

    train: tuple[Entry, ...]
    val: tuple[Entry, ...]
    test: tuple[Entry, ...]
    notes: tuple[str, ...]

    @property
    def judged(self) -> tuple[Entry, ...]:
        """The images that the verdict is made with."""
        return self.test or self.val


def divide(plan: Plan, *, boxes: bool = False, areas: bool = False) -> Division:
    """Return the division of a plan's data.

    ``boxes`` and ``areas`` also take other images than those with instance masks, see
    `napari_histosam.train.labelled.entries`.

    Raises
    ------
    InputError
        If there is nothing to learn from, or nothing that can be held out.
    """
    folders = {folder.name: folder for folder in find_sets(plan.data)}
    for name in plan.sets:
        if name not in folders:
            raise InputError(f"{plan.data} has no set {name}, but {', '.join(folders)}.")
    train: list[Entry] = []
    val: list[Entry] = []
    test: list[Entry] = []
    notes: list[str] = []
    for name in plan.sets or folders:
        folder = folders[name]
        parts = _named(folder, boxes, areas)
        if parts is None:
            found = entries(folder, boxes=boxes, areas=areas)
        else:
            found, held, aside = parts
            val += held
            test += aside
        train += found
    if not train:
        raise InputError(
            f"{plan.data} holds no image with {'a' if areas else 'an instance'} mask to train on: "
            "see its index.json and splits.json."
        )
    if not val:
        train, val = _held_out(train, plan)
        groups = sorted({entry.group for entry in val})
        notes.append(
            f"No split for validation is named: {len(val)} of {len(train) + len(val)} images are "
            f"held out, as whole groups ({', '.join(groups[:5])}{' …' if len(groups) > 5 else ''})."
        )
    shared = {e.group for e in train} & {e.group for e in (*val, *test)}
    if shared:
        notes.append(
            f"The splits share {len(shared)} groups (for example {sorted(shared)[0]}): figures "
            "will look better than they are."
        )
    if not test:
        notes.append(
            "No split for testing is named: before and after are measured on the images that also "
            "chose the best epoch."
        )
    return Division(tuple(_limited(train, plan)), tuple(val), tuple(test), tuple(notes))


def data_hash(plan: Plan) -> str:
    """Return ``"sha256:…"`` of the manifest of the data, or of all indices and splits."""
    digest = hashlib.sha256()
    manifest = plan.data / "manifest.json"
    if manifest.is_file():
        return f"sha256:{hashlib.sha256(manifest.read_bytes()).hexdigest()}"
    for folder in find_sets(plan.data):
        if plan.sets and folder.name not in plan.sets:
            continue
        digest.update((folder / "index.json").read_bytes())
        splits = splits_file(folder)
        digest.update(b"" if splits is None else splits.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _named(
    folder: Path, boxes: bool, areas: bool
) -> tuple[list[Entry], list[Entry], list[Entry]] | None:
    names = split_names(folder)
    if not names:
        return None
    chosen = {
        part: [name for name in names if part in name.lower()] for part in ("train", "val", "test")
    }
    if not chosen["train"]:
        raise InputError(
            f"The set {folder.name} has the splits {', '.join(names)}, none of which is named "
            "as one for training: call it train."
        )
    train, val, test = (
        entries(folder, chosen[part], boxes=boxes, areas=areas) if chosen[part] else []
        for part in chosen
    )
    return train, val, test


def _held_out(found: Sequence[Entry], plan: Plan) -> tuple[list[Entry], list[Entry]]:
    groups = sorted({entry.group for entry in found})
    if len(groups) < 2:
        what = "one image" if len(found) == 1 else "images of one group only"
        raise InputError(
            f"{plan.data} holds {what}: training needs another slide or patient to be held out, so "
            "add images of a second one."
        )
    rng = np.random.default_rng((plan.seed, 20))
    count = max(1, round(_HELD_OUT * len(groups)))
    out = {groups[i] for i in rng.permutation(len(groups))[:count]}
    train = [entry for entry in found if entry.group not in out]
    return train, [entry for entry in found if entry.group in out]


def _limited(found: list[Entry], plan: Plan) -> list[Entry]:
    if plan.limit is None or plan.limit >= len(found):
        return found
    order = np.random.default_rng((plan.seed, 21)).permutation(len(found))
    return [found[i] for i in sorted(order[: plan.limit])]
