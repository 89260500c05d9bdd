"""Which patches are held out: those of whole slides or patients, or a part of the only one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from napari_histosam.records import PATCH_KINDS
from napari_histosam.train.dataset.splits import Placed, draw, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_histosam.records import PatchLabel

# Patches of the only slide are held out by blocks of so many a side, since neighbours look alike.
_BLOCK = 4


class _Shares(Protocol):
    @property
    def val(self) -> float: ...
    @property
    def test(self) -> float: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Divided:
    """Where patches went.

    Parameters
    ----------
    groups : mapping of (slide, PatchLabel) to str
        What must stay together: a patient, a slide, or a block of one.
    placed : mapping of str to Placed
        By slide, or by block of the only one.
    by_block : bool
        Whether blocks of the only slide were divided.
    notes : tuple of str
        What the user should know.
    """

    groups: Mapping[tuple[str, PatchLabel], str]
    placed: Mapping[str, Placed]
    by_block: bool
    notes: tuple[str, ...]

    def split_of(self, slide: str, patch: PatchLabel) -> str:
        """Return the split of a patch."""
        return self.placed[self.groups[slide, patch] if self.by_block else slide].split


def divided(
    patches: Mapping[str, Sequence[PatchLabel]],
    groups: Mapping[str, str],
    shares: _Shares,
    kept: Mapping[str, Placed],
) -> Divided:
    """Divide labelled patches into train, val and test.

    Parameters
    ----------
    patches : mapping of str to sequence of PatchLabel
        By slide.
    groups : mapping of str to str
        Slide → patient, or the slide itself.
    shares : object with ``val``, ``test``, ``seed``
        See `napari_histosam.train.dataset.splits.place`.
    kept : mapping of str to Placed
        Where slides, or blocks, have been in this folder.

    Notes
    -----
    Of two groups or more, whole ones are held out, as in every data set here. A single one cannot
    be: then blocks of neighbouring patches of it go to ``val`` until it holds its share and both
    labels, as far as training keeps both, too; there is no test set.
    """
    if len(set(groups.values())) > 1:
        placed = place(groups, shares.seed, shares.val, shares.test, _slides_of(kept, groups))
        of = {(slide, one): groups[slide] for slide, all_ in patches.items() for one in all_}
        return Divided(of, placed, False, tuple(_lacking(patches, placed)))
    of = {
        (slide, one): _block(slide, one, groups[slide])
        for slide, all_ in patches.items()
        for one in all_
    }
    labels: dict[str, Counter[str]] = {}
    for (_, one), group in of.items():
        labels.setdefault(group, Counter())[one.label] += 1
    held = _held(labels, shares, kept)
    placed = {group: Placed("val" if group in held else "train", "few") for group in sorted(labels)}
    who = "slide" if len(groups) == 1 else "patient"
    notes = [
        f"With one {who} only, parts of it are held out to choose the best by; how good the model "
        f"is on another {who} is not known."
    ]
    if not held:
        notes = [f"There are too few labels to hold any out; label more, or another {who}."]
    return Divided(of, placed, True, tuple(notes))


def _slides_of(kept: Mapping[str, Placed], groups: Mapping[str, str]) -> dict[str, Placed]:
    return {key: one for key, one in kept.items() if key in groups}


def _block(slide: str, patch: PatchLabel, group: str) -> str:
    x, y = patch.middle
    column = math.floor(x / (patch.width * _BLOCK))
    row = math.floor(y / (patch.height * _BLOCK))
    return f"{group}-{slide[:10]}-{column}-{row}"


def _held(
    labels: Mapping[str, Counter[str]], shares: _Shares, kept: Mapping[str, Placed]
) -> set[str]:
    """Return the blocks to hold out; those held out before stay so."""
    total = sum((one for one in labels.values()), Counter[str]())
    held = {group for group in labels if group in kept and kept[group].split == "val"}
    found = sum((labels[group] for group in held), Counter[str]())
    wanted = {kind: max(1.0, shares.val * total[kind]) for kind in PATCH_KINDS}
    for group in sorted(labels, key=lambda one: (draw(one, shares.seed), one)):
        if group in held or group in kept:
            continue
        lacks = any(found[kind] < wanted[kind] and labels[group][kind] for kind in PATCH_KINDS)
        leaves = all(
            total[kind] - found[kind] - labels[group][kind] >= max(1, total[kind] // 2)
            for kind in PATCH_KINDS
            if labels[group][kind]
        )
        if shares.val > 0 and lacks and leaves:
            held.add(group)
            found += labels[group]
    return held


def _lacking(
    patches: Mapping[str, Sequence[PatchLabel]], placed: Mapping[str, Placed]
) -> list[str]:
    """Say which split that is there lacks a label."""
    found: dict[str, Counter[str]] = {}
    for slide, all_ in patches.items():
        found.setdefault(placed[slide].split, Counter()).update(one.label for one in all_)
    return [
        f"No patch for {split} is labelled {kind}; label some on other slides."
        for split, counts in sorted(found.items())
        for kind in PATCH_KINDS
        if not counts[kind]
    ]
