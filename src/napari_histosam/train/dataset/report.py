"""What a build has done, as figures and as sentences for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.train.dataset.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_histosam.train.dataset.splits import Split


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Parameters
    ----------
    out : Path
    slides, windows, objects : int
        In all splits; objects are counted once however many windows show them.
    counts : mapping of str to mapping
        Split → ``slides``, ``windows``, ``objects``, ``by_class``.
    classes : mapping of str to int
        Class name → id.
    mpp : float or None
        µm per px of the finest windows.
    scale : str
        The scale in words, and how it was chosen.
    added, kept, removed : int
        Windows that are new, the same as before, and gone.
    lacking : tuple of str
        What the data set has too little of, one sentence each.
    warnings : tuple of str
        What was left out, moved or not taken over, one sentence each.
    seconds : float
    """

    out: Path
    slides: int
    windows: int
    objects: int
    counts: Mapping[Split, Mapping[str, Any]]
    classes: Mapping[str, int]
    mpp: float | None
    scale: str
    added: int
    kept: int
    removed: int
    lacking: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {
            "out": str(self.out),
            "slides": self.slides,
            "windows": self.windows,
            "objects": self.objects,
            "splits": {split: dict(self.counts[split]) for split in SPLITS},
            "classes": dict(self.classes),
            "mpp": self.mpp,
            "scale": self.scale,
            "added": self.added,
            "kept": self.kept,
            "removed": self.removed,
            "lacking": list(self.lacking),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """Return a few lines for people."""
        rows = [
            f"{_many(self.objects, 'object')} of {_many(self.slides, 'slide')} in "
            f"{_many(self.windows, 'window')}, written to {self.out}",
            f"scale: {self.scale}",
            f"windows: {self.added} new, {self.kept} as before, {self.removed} gone",
        ]
        for split in SPLITS:
            part = self.counts[split]
            classes = ", ".join(
                f"{row['objects']} {row['class'] or 'unclassified'}" for row in part["by_class"]
            )
            rows.append(
                f"{split}: {_many(part['slides'], 'slide')}, {_many(part['windows'], 'window')}"
                + (f": {classes}" if classes else "")
            )
        return "\n".join([*rows, *self.lacking, *self.warnings])


def lacking(counts: Mapping[Split, Mapping[str, Any]], groups: Sequence[str]) -> list[str]:
    """Say what a data set is too small for.

    Parameters
    ----------
    counts : mapping
        As in `BuildReport`.
    groups : sequence of str
        The group (slide or patient) of each slide.
    """
    of = "patient" if len(set(groups)) < len(groups) else "slide"
    if len(set(groups)) == 1 and counts["train"]["slides"]:
        return [
            f"There is one {of} only, and all of it is for training: add a second one to find out "
            "how good a model is on what it was not trained on."
        ]
    said = []
    if not counts["train"]["objects"]:
        said.append("There is no object to train on: add slides, or give another --seed.")
    if not counts["val"]["objects"]:
        said.append(f"There is no object to validate on: add a {of}.")
    if not counts["test"]["slides"]:
        said.append(
            f"No {of} fell to the test set, so figures can come from validation alone: add "
            f"{of}s, or raise --test."
        )
    trained = {row["class"] for row in counts["train"]["by_class"]}
    held = {row["class"] for split in ("val", "test") for row in _rows(counts, split)}
    for name in sorted(name for name in held - trained if name is not None):
        said.append(f"The class {name} is in no slide that is trained on: add one that shows it.")
    return said


def _rows(counts: Mapping[Any, Mapping[str, Any]], split: str) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = counts[split]["by_class"]
    return rows


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
