"""What came of a training: the table of before and after, the verdict in words, the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.viewer.learning.course import Course

FIGURES = {"iou_click1": "1 click", "iou_click3": "3 clicks", "iou_box": "Box"}
FOUND = {
    "ap50": "Found at IoU 0.5 (AP50)",
    "dice_all": "Dice, ground too",
    "dice": "Dice",
    "iou": "Mean IoU",
    "auc": "Pixel AUC",
}
"""The same of models that find objects or regions by themselves."""

_MEASURES = {"iou": "mean IoU", "ap50": "AP50", "dice_all": "mean Dice"}


@dataclass(frozen=True)
class Figure:
    """One line of the table: a figure before and after.

    Parameters
    ----------
    title : str
    before, after, gain : float
    """

    title: str
    before: float
    after: float
    gain: float


@dataclass(frozen=True)
class Change:
    """An object whose mask changed much.

    Parameters
    ----------
    before, after : Path
        Pictures.
    caption : str
    """

    before: Path
    after: Path
    caption: str


@dataclass(frozen=True)
class Result:
    """A finished training.

    Parameters
    ----------
    name, base : str
        Of the model that was made, and of the one it was trained from.
    verdict : {"better", "same", "worse"}
    words : str
        The verdict in one sentence.
    counted : str
        What was counted of what was held out: ``"objects"`` or ``"images"``.
    n_counted, n_groups : int
        So many of these, and slides (or patients) held out.
    heading : str
        What the figures are.
    figures : tuple of Figure
    best, worst : tuple of Change
    """

    name: str
    base: str
    verdict: str
    words: str
    counted: str
    n_counted: int
    n_groups: int
    heading: str
    figures: tuple[Figure, ...]
    best: tuple[Change, ...]
    worst: tuple[Change, ...]


def read_result(course: Course) -> Result | None:
    """Return what came of a training, or None if it has not come to its end."""
    said = course.read("result")
    found = said.get("comparison")
    if not isinstance(found, dict):
        return None
    alone = "decided_by" in found
    figures = tuple(
        Figure(title, *(float(found["figures"][key][k]) for k in ("before", "after", "gain")))
        for key, title in (FOUND if alone else FIGURES).items()
        if key in found["figures"]
    )
    gallery = course.read("run/gallery/gallery")
    base = str(said["base"])
    return Result(
        name=str(said["name"]),
        base=base,
        verdict=str(found["verdict"]),
        words=_words(found, base, unchanged=said.get("best_epoch") == 0),
        counted=_counted(found),
        n_counted=int(found[f"n_{_counted(found)}"]),
        n_groups=int(found["n_groups"]),
        heading="Without prompts" if alone else "Mean IoU",
        figures=figures,
        best=_changes(course, gallery, "best"),
        worst=_changes(course, gallery, "worst"),
    )


def _words(found: dict[str, Any], base: str, *, unchanged: bool) -> str:
    by = found.get("decided_by", "iou")
    whole = found["figures"][by]
    counted = _counted(found)
    many = _many(int(found[f"n_{counted}"]), counted.removesuffix("s"))
    where = f"{many} of {_many(int(found['n_groups']), 'slide')} held out"
    gain, low, high = (f"{whole[key]:+.3f}" for key in ("gain", "low", "high"))
    change = f"{_MEASURES.get(by, by)} {whole['before']:.3f} → {whole['after']:.3f}"
    change = f"{change} ({gain}; 95 % {low} to {high})".replace("-", "\N{MINUS SIGN}")
    start = {
        "better": f"Better than {base}",
        "worse": f"Worse than {base}",
        "same": f"No clear difference to {base}",
    }[found["verdict"]]
    if unchanged and not whole["gain"]:
        return f"No epoch did better than {base} on {where}, so the new model is the same as it."
    care = ""
    if found["n_groups"] == 1:
        care = " One slide only: other slides may turn out otherwise."
    return f"{start} on {where}: {change}.{care}"


def _counted(found: Mapping[str, Any]) -> str:
    return "images" if "n_images" in found else "objects"


def _changes(course: Course, gallery: dict[str, Any], which: str) -> tuple[Change, ...]:
    folder = course.run / "gallery"
    return tuple(
        Change(
            folder / one["before_picture"],
            folder / one["after_picture"],
            f"{one['prompt']}: {one['before']:.2f} → {one['after']:.2f}",
        )
        for one in gallery.get(which, ())
    )


def card_lines(card: ModelCard) -> list[str]:
    """Return what a trained model's card says, line by line; nothing for other models."""
    made = card.trained
    if made is None:
        return []
    lines = [f"Trained from {made.base} ({made.method}) on {made.date[:10]}, data: {made.data}"]
    prompted = not made.figures.keys().isdisjoint(FIGURES)
    figures = [
        f"{title} {made.figures[key]['before']:.2f} → {made.figures[key]['after']:.2f}"
        for key, title in (FIGURES if prompted else FOUND).items()
        if isinstance(made.figures.get(key), dict)
    ]
    if figures:
        counted = _counted(made.figures)
        many = _many(int(made.figures.get(f"n_{counted}", 0)), counted.removesuffix("s"))
        start = "IoU on" if prompted else "On"
        lines.append(f"{start} {many} held out: {', '.join(figures)}")
    words = {"better": "better than", "worse": "worse than", "same": "no clear difference to"}
    if made.verdict in words:
        lines.append(f"Verdict: {words[made.verdict]} its base")
    return lines


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
