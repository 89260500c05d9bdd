"""What models learn from whole windows, objects or areas: how that is read, cut and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from napari_histosam.train.area_maps import area_names
from napari_histosam.train.windowed.area_tally import AreaTally
from napari_histosam.train.windowed.area_windows import AreaSource, cut_areas
from napari_histosam.train.windowed.validation import Tally
from napari_histosam.train.windowed.windows import Part, Seen, Source, class_names, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.labelled import Entry
    from napari_histosam.train.windowed.judge import Judge


class Reader(Protocol):
    """Reads windows of labelled images."""

    def read(self, part: Part) -> Seen:
        """Return a window with what is known of it."""
        ...


@dataclass(frozen=True)
class Subject:
    """What a model is to learn.

    Parameters
    ----------
    counted : str
        What is counted where models are compared: ``"objects"`` or ``"images"``.
    figure : str
        What the figure that decides is called.
    asks : mapping of str to bool
        For `napari_histosam.train.labelled.entries`.
    names : callable
        Returns the classes that images teach a card.
    source : callable
        Makes a `Reader` for classes.
    cut : callable
        Returns the windows of images, for a card, a source, and who gets notes.
    judge : callable
        Makes a `Judge` for so many classes.
    """

    counted: str
    figure: str
    asks: Mapping[str, bool]
    names: Callable[[Sequence[Entry], ModelCard, Plan], tuple[str, ...]]
    source: Callable[[tuple[str, ...], Plan], Any]
    cut: Callable[..., list[Part]]
    judge: Callable[[int], Judge]

    def said(self, found: Mapping[str, Any], plan: Plan) -> str:
        """Return a comparison as a sentence, see `napari_histosam.train.windowed.verdict`."""
        one = next(iter(found["figures"].values()))
        by = "outlines" if self is AREAS or not plan.boxes_only else "boxes"
        return (
            f"On {found[f'n_{self.counted}']} {self.counted} held out, {self.figure} by {by} went "
            f"from {one['before']:.3f} to {one['after']:.3f} (95 % interval of the gain "
            f"{one['low']:+.3f} to {one['high']:+.3f}): {found['verdict']}."
        )


OBJECTS = Subject(
    "objects",
    "AP50",
    {"boxes": True},
    lambda found, card, plan: class_names(found, card) if not plan.one_class else (plan.one_class,),
    lambda classes, plan: Source(classes, boxes_only=plan.boxes_only),
    cut,
    lambda classes: Tally(),
)
AREAS = Subject(
    "images",
    "the mean Dice of classes and ground",
    {"areas": True},
    lambda found, card, plan: area_names(found, card, plan.one_class),
    lambda classes, plan: AreaSource(classes),
    cut_areas,
    AreaTally,
)


def subject_of(card: ModelCard) -> Subject:
    """Return what a model learns, by what it finds."""
    return AREAS if card.finds == "regions" else OBJECTS
