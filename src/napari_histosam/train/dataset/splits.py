"""Splits slides, or patients, into train, val and test: by a hash, so that each stays put."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Split = Literal["train", "val", "test"]
Why = Literal["hash", "few", "frozen", "patient"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Placed:
    """Where a slide went, and why.

    Parameters
    ----------
    split : {"train", "val", "test"}
    why : {"hash", "few", "frozen", "patient"}
        By its own hash; because there are too few slides to leave it to the hash; because the
        test set is frozen; or because of where another slide of its patient is. A slide that
        stays where it was keeps its reason.
    """

    split: Split
    why: Why


def draw(group: str, seed: int) -> float:
    """Return a number from 0 to below 1 that depends on a group's name and the seed alone."""
    digest = hashlib.sha256(f"split:{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(group: str, seed: int, val: float, test: float) -> Split:
    """Return the split of a group of slides, whatever other groups there are.

    Parameters
    ----------
    group : str
        Names a patient or a slide.
    seed : int
    val, test : float
        Shares.
    """
    at = draw(group, seed)
    if at < test:
        return "test"
    return "val" if at < test + val else "train"


def place(
    groups: Mapping[str, str],
    seed: int,
    val: float,
    test: float,
    kept: Mapping[str, Placed] | None = None,
    *,
    frozen: bool = False,
) -> dict[str, Placed]:
    """Place slides in splits; slides of one group are never apart.

    Parameters
    ----------
    groups : mapping of str to str
        Slide → group.
    seed, val, test
        As in `split_of`.
    kept : mapping of str to Placed, optional
        Where slides have been in this folder, and so stay.
    frozen : bool
        Whether the test set must not grow: new slides that the hash would put there go to
        ``val``, where they are held out, too.

    Returns
    -------
    dict of str to Placed

    Notes
    -----
    Where the hash leaves no slide to train on, or none to validate on although there are two
    groups or more, one of the new groups is moved, the one whose number comes nearest.
    """
    kept = kept or {}
    members: dict[str, list[str]] = {}
    for slide, group in sorted(groups.items()):
        members.setdefault(group, []).append(slide)
    placed: dict[str, Split] = {}
    new: dict[str, Why] = {}
    for group, slides in members.items():
        had = {kept[slide].split for slide in slides if slide in kept}
        if had:
            # A patient who is held out with one slide must not be trained on with another.
            placed[group] = next(split for split in ("test", "val", "train") if split in had)
            continue
        drawn = split_of(group, seed, val, test)
        new[group] = "frozen" if drawn == "test" and frozen else "hash"
        placed[group] = "val" if new[group] == "frozen" else drawn
    for group, split in _mended(placed, new, seed):
        placed[group], new[group] = split, "few"
    found: dict[str, Placed] = {}
    for group, slides in members.items():
        for slide in slides:
            split = placed[group]
            if group in new:
                found[slide] = Placed(split, new[group])
            elif slide in kept and kept[slide].split == split:
                found[slide] = kept[slide]
            else:
                # The test set is what it was; the others of its patient are only held out.
                held: Split = "val" if split == "test" and frozen else split
                found[slide] = Placed(held, "patient")
    return found


def _mended(
    placed: Mapping[str, Split], new: Iterable[str], seed: int
) -> Iterable[tuple[str, Split]]:
    """Yield moves of new groups that give a small set something to train and to validate on."""
    now = dict(placed)
    movable = sorted(new, key=lambda group: (draw(group, seed), group))
    if movable and "train" not in now.values():
        last = movable.pop()
        now[last] = "train"
        yield last, "train"
    if "val" in now.values() or len(now) < 2:
        return
    training = [group for group, split in now.items() if split == "train"]
    spare = [group for group in movable if now[group] == "train"] if len(training) > 1 else []
    spare += [group for group in movable if now[group] == "test"]
    if spare:
        yield spare[0], "val"
