"""Which patches are held out: those of whole slides or patients, or parts of slides."""

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

# Parts of a slide are held out by blocks of so many patches a side, since neighbours look alike.
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
        By slide, and by block of slides of which parts are held out.
    notes : tuple of str
        What the user should know.
    """

    groups: Mapping[tuple[str, PatchLabel], str]
    placed: Mapping[str, Placed]
    notes: tuple[str, ...]

    def split_of(self, slide: str, patch: PatchLabel) -> str:
        """Return the split of a patch."""
        block = self.placed.get(self.groups[slide, patch])
        return (block or self.placed[slide]).split


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
        Where slides, and blocks, have been in this folder.

    Notes
    -----
    Of two groups or more, whole ones are held out, as in every data set here. Where there is one
    only, or what is held out or left to train on lacks a label, blocks of neighbouring patches go
    to ``val`` until it holds its share and both labels, as far as training keeps both, too.
    """
    of_slides = {key: one for key, one in kept.items() if key in groups}
    placed = place(groups, shares.seed, shares.val, shares.test, of_slides)
    lone = len(set(groups.values())) == 1
    lacks = [] if lone else _lacking(patches, placed)
    if not lone and not lacks:
        return Divided({(s, p): groups[s] for s, all_ in patches.items() for p in all_}, placed, ())
    if lone:
        placed = {slide: Placed("train", "few") for slide in groups}
    of: dict[tuple[str, PatchLabel], str] = {}
    labels: dict[str, Counter[str]] = {}
    for slide, all_ in patches.items():
        for one in all_:
            whole = placed[slide].split == "test"
            group = of[slide, one] = groups[slide] if whole else _block(slide, one, groups[slide])
            if not whole:
                labels.setdefault(group, Counter())[one.label] += 1
    held = _held(labels, shares, kept)
    blocks = {g: Placed("val" if g in held else "train", "few") for g in sorted(labels)}
    return Divided(of, {**placed, **blocks}, (_note(groups, lacks, held),))


def _note(groups: Mapping[str, str], lacks: Sequence[str], held: set[str]) -> str:
    who = "slide" if len(set(groups.values())) == len(groups) else "patient"
    if not held:
        return f"There are too few labels to hold any out; label more, or another {who}."
    why = f"{lacks[0]}, so" if lacks else f"With one {who} only,"
    return (
        f"{why} parts of slides are held out to choose the best by; how good the model is on "
        f"another {who} is not known."
    )


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
    """Say what training, or what chooses the best, has no patch of."""
    found: dict[str, Counter[str]] = {"train": Counter(), "val": Counter()}
    for slide, all_ in patches.items():
        found.setdefault(placed[slide].split, Counter()).update(one.label for one in all_)
    where = {"train": "left to train on", "val": "held out"}
    return [
        f"No slide {text} has a {kind} patch"
        for split, text in where.items()
        for kind in PATCH_KINDS
        if not found[split][kind]
    ]
