"""Divides labelled patches into those that teach and those that choose the best epoch.

Splits that the data name are respected: *train* teaches, *val* chooses, *test* stays unread. Else
a fifth is held out, as whole groups (patients, slides) wherever there are groups enough.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.train.labelled import find_sets, split_names
from napari_histosam.train.patchwise.labels import (
    PatchEntry,
    is_authors_folder,
    listed_patches,
    patch_entries,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_histosam.train.patchwise.plan import PatchPlan

LEAST = 5
ENOUGH = 200
_HELD_OUT = 0.2
_TRIES = 50


@dataclass(frozen=True)
class PatchDivision:
    """What each patch is for; names are unique and fit for files.

    Parameters
    ----------
    train, val : tuple of PatchEntry
    notes : tuple of str
        What the user should know about it, one sentence each.
    """

    train: tuple[PatchEntry, ...]
    val: tuple[PatchEntry, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that teach, sorted."""
        return tuple(sorted({entry.group for entry in self.train}))

    def count(self, *, tumour: bool) -> int:
        """Return how many patches there are of a label, both parts together."""
        return sum(entry.tumour == tumour for entry in (*self.train, *self.val))

    def content_hash(self) -> str:
        """Return ``"sha256:…"`` of names, labels, groups and parts."""
        lines = sorted(
            f"{part}\t{e.name}\t{e.group}\t{int(e.tumour)}\t{e.mpp}"
            for part, found in (("train", self.train), ("val", self.val))
            for e in found
        )
        text = "\n".join(lines)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def divide_patches(plan: PatchPlan) -> PatchDivision:
    """Return the division of a plan's data: a data set, folders of such, the authors', or a CSV.

    Raises
    ------
    InputError
        If labels cannot be read, one of the two is missing, or there are too few.
    """
    notes: list[str] = []
    found = [entry for entry in _read(plan.data, plan.sets) if entry.part != "test"]
    _check(found, str(plan.data))
    train = [entry for entry in found if entry.part == "train"]
    val = [entry for entry in found if entry.part == "val"]
    free = [entry for entry in found if not entry.part]
    if val:
        train += free
    else:
        train, val = _held_out([*train, *free], plan.seed, notes)
    for part, what in ((train, "train with"), (val, "choose the best epoch by")):
        for kind in (True, False):
            if not any(entry.tumour == kind for entry in part):
                raise InputError(
                    f"{plan.data} leaves no patch labelled {_called(kind)} to {what}: put some "
                    "into that split, or name no splits."
                )
    shared = {e.group for e in train} & {e.group for e in val}
    if shared and not notes:
        notes.append(
            f"The splits share {len(shared)} groups (for example {sorted(shared)[0]}): figures "
            "will look better than they are."
        )
    least = min(sum(e.tumour == kind for e in found) for kind in (True, False))
    if least < ENOUGH:
        notes.append(
            f"There are {least} patches of the rarer label: {ENOUGH} or more of each, of several "
            "slides, make a better classifier."
        )
    if plan.limit is not None and plan.limit < len(train):
        order = np.random.default_rng((plan.seed, 21)).permutation(len(train))
        train = [train[i] for i in sorted(order[: plan.limit])]
        _check([*train, *val], f"What --limit {plan.limit} leaves of {plan.data}")
    named = _named([*train, *val])
    return PatchDivision(named[: len(train)], named[len(train) :], tuple(notes))


def _read(data: Path, sets: Sequence[str]) -> list[PatchEntry]:
    if data.is_file():
        return listed_patches(data)
    if is_authors_folder(data):
        return patch_entries(data)
    folders = {folder.name: folder for folder in find_sets(data)}
    for name in sets:
        if name not in folders:
            raise InputError(f"{data} has no set {name}, but {', '.join(folders)}.")
    found: list[PatchEntry] = []
    for name in sets or folders:
        folder = folders[name]
        whole = {entry.name: entry for entry in patch_entries(folder)}
        splits = split_names(folder)
        for part in ("test", "val", "train"):
            chosen = [one for one in splits if part in one.lower()]
            for entry in patch_entries(folder, chosen) if chosen else ():
                whole[entry.name] = replace(entry, part=part)
        # What a folder's splits leave out is out, as for all other models.
        found += [entry for entry in whole.values() if entry.part or not splits]
    return found


def _check(found: Sequence[PatchEntry], what: str) -> None:
    counts = Counter(entry.tumour for entry in found)
    if not counts:
        raise InputError(f"{what} holds no labelled patch: label some as tumour, some as normal.")
    for kind in (True, False):
        if counts[kind] >= LEAST:
            continue
        here = "no patch is" if not counts[kind] else f"only {counts[kind]} are"
        raise InputError(
            f"{what}: {here} labelled {_called(kind)} ({counts[not kind]} {_called(not kind)}); "
            f"label at least {LEAST} of each, better {ENOUGH}."
        )


def _held_out(
    found: Sequence[PatchEntry], seed: int, notes: list[str]
) -> tuple[list[PatchEntry], list[PatchEntry]]:
    """Hold out whole groups so that both parts have both labels; else single patches."""
    groups = sorted({entry.group for entry in found})
    count = max(1, round(_HELD_OUT * len(groups)))
    rng = np.random.default_rng((seed, 20))
    for _ in range(_TRIES if len(groups) > 1 else 0):
        out = {groups[i] for i in rng.permutation(len(groups))[:count]}
        parts = (
            [entry for entry in found if entry.group not in out],
            [entry for entry in found if entry.group in out],
        )
        if all({entry.tumour for entry in part} == {True, False} for part in parts):
            notes.append(
                f"No split for validation is named: {len(parts[1])} of {len(found)} patches are "
                f"held out, as whole groups ({', '.join(sorted(out)[:5])}"
                f"{' …' if len(out) > 5 else ''})."
            )
            return parts
    aside: set[str] = set()
    for kind in (True, False):
        names = sorted({entry.name for entry in found if entry.tumour == kind})
        share = max(1, round(_HELD_OUT * len(names)))
        aside |= {names[i] for i in rng.permutation(len(names))[:share]}
    notes.append(
        "There are too few groups (slides, patients) to hold out whole ones with both labels: "
        "single patches are held out, so figures will look better than they are."
    )
    return (
        [entry for entry in found if entry.name not in aside],
        [entry for entry in found if entry.name in aside],
    )


def _named(found: Sequence[PatchEntry]) -> tuple[PatchEntry, ...]:
    """Give each patch a name that is its own and fit for a file."""
    taken: set[str] = set()
    out = []
    for entry in found:
        plain = re.sub(r"[^\w.-]+", "_", entry.name).strip(".") or "patch"
        name, number = plain, 2
        while name.lower() in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.lower())
        out.append(replace(entry, name=name))
    return tuple(out)


def _called(tumour: bool) -> str:
    return "tumour" if tumour else "normal"
