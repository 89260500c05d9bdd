"""How well a model tells the areas of held-out windows, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from napari_histosam.train.evaluation.areas import AreaFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models.window_trainable import FindsAreas
    from napari_histosam.train.windowed.kept import Known

# The AUC of who knows nothing.
_CHANCE = 0.5


class AreaTally:
    """Adds up windows: a `Judge` of what was found as areas.

    Half-overlapping windows of one image are counted one by one.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int) -> None:
        self._figures = AreaFigures(classes)

    @classmethod
    def of(cls, several: Sequence[AreaTally]) -> AreaTally:
        """Return several together."""
        out = cls(several[0]._figures.classes)
        out._figures = AreaFigures.of([one._figures for one in several])
        return out

    @property
    def count(self) -> int:
        """How many images there were."""
        return self._figures.images

    def add(self, model: Any, known: Known) -> None:
        """Have a model tell the areas of a window, and compare them px by px."""
        entry, areas = known.part.entry, known.look.truth.areas
        assert areas is not None
        likely = cast("FindsAreas", model).likely(known.look)
        self._figures.add(f"{entry.set_name}/{entry.name}", likely, areas)

    def score(self) -> dict[str, float]:
        """Return figures of areas.

        The mean Dice of classes and ground, by which a model is judged: where a class is frequent,
        that of the class alone is high for a model that sees it everywhere. The mean Dice and IoU
        of the classes, and the AUC of px, 0.5 where all or none of them are of a class.
        """
        figures = self._figures
        auc = figures.auc()
        return {
            "dice_all": figures.dice(ground=True),
            "dice": figures.dice(),
            "iou": figures.iou(),
            "auc": _CHANCE if auc is None else auc,
        }
