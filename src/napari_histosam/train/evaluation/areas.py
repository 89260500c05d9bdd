"""Figures for areas: how a map of classes compares with the truth, by px and by border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

IGNORED = 255
_RANKS = 1001


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each other.

    Parameters
    ----------
    counts : (c, c) int array
        Px; rows are the truth, columns what was found.
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, found: NDArray[np.integer], truth: NDArray[np.integer], classes: int) -> Confusion:
        """Count px of two maps of class numbers; those whose truth is 255 are left out."""
        known = truth != IGNORED
        pairs = truth[known].astype(np.int64) * classes + found[known]
        return cls(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    @property
    def accuracy(self) -> float:
        """The share of px that is right."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of each class that was found; NaN where there is none of it."""
        return _share(np.diag(self.counts), self.counts.sum(1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """The IoU of each class; NaN where it was neither there nor found."""
        both = np.diag(self.counts)
        return _share(both, self.counts.sum(0) + self.counts.sum(1) - both)

    @property
    def dice(self) -> NDArray[np.float64]:
        """The Dice coefficient of each class; NaN where it was neither there nor found."""
        return _share(2 * np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1))


class AreaFigures:
    """Adds up images in which a model told areas.

    Parameters
    ----------
    classes : int
        Without what is none of them.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._by_image: list[tuple[str, Confusion]] = []
        # How many px of a class, and how many others, were held for so likely.
        self._ranks = np.zeros((classes, 2, _RANKS), np.int64)

    @classmethod
    def of(cls, several: Sequence[AreaFigures]) -> AreaFigures:
        """Return several together; one that is there twice counts twice."""
        out = cls(several[0].classes)
        for one in several:
            out._by_image += one._by_image
            out._ranks += one._ranks
        return out

    @property
    def images(self) -> int:
        """How many images there were."""
        return len(self._by_image)

    def add(self, image: str, likely: NDArray[np.float32], truth: NDArray[np.uint8]) -> None:
        """Add an image, or a further part of the one that was added last.

        Parameters
        ----------
        image : str
            Its name.
        likely : (k, h, w) float array
            See `napari_histosam.models.automatic.RegionModel`.
        truth : (h, w) uint8 array
            Class plus 1, 0 for none of them, 255 for what is unknown.
        """
        known = truth != IGNORED
        one = Confusion.of(told(likely), truth, self.classes + 1)
        if self._by_image and self._by_image[-1][0] == image:
            one += self._by_image.pop()[1]
        self._by_image.append((image, one))
        for number, own in enumerate(likely, 1):
            rank = (own[known] * (_RANKS - 1)).round().clip(0, _RANKS - 1).astype(np.int64)
            is_it = truth[known] == number
            for row, chosen in enumerate((~is_it, is_it)):
                self._ranks[number - 1, row] += np.bincount(rank[chosen], minlength=_RANKS)

    def dice(self, *, ground: bool = False) -> float:
        """Return the mean Dice over images and classes; 1 where a class is rightly nowhere.

        ``ground`` counts what is none of the classes as one more, so that holding everything for a
        frequent class is no good answer.
        """
        return self._mean("dice", 0 if ground else 1)

    def iou(self) -> float:
        """Return the mean IoU over images and classes, see `dice`."""
        return self._mean("iou", 1)

    def auc(self) -> float | None:
        """Return how likely a px of a class is held for likelier of it than any other px.

        The area under the ROC curve over the px of all images, averaged over classes; None if no
        class is both there and not there. Probabilities count to a thousandth.
        """
        found = []
        for others, own in self._ranks:
            pairs = int(own.sum()) * int(others.sum())
            if pairs:
                below = np.concatenate([[0], np.cumsum(others)[:-1]])
                found.append(float((own * (below + others / 2)).sum() / pairs))
        return float(np.mean(found)) if found else None

    def whole(self) -> Confusion:
        """Return the px of all images together."""
        counts = np.zeros((self.classes + 1, self.classes + 1), np.int64)
        return Confusion(sum((one.counts for _, one in self._by_image), counts))

    def false_shares(self) -> list[float]:
        """Return the share of px that were held for a class, of each image that shows none."""
        without = [one.counts for _, one in self._by_image if not one.counts[1:].any()]
        return [float(counts[0, 1:].sum() / counts.sum()) for counts in without if counts.any()]

    def _mean(self, name: str, first: int) -> float:
        if not self._by_image:
            return 0.0
        values = np.stack([getattr(one, name)[first:] for _, one in self._by_image])
        return float(np.where(np.isnan(values), 1.0, values).mean())


def told(likely: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return what each px most likely is, (h, w): class plus 1, 0 for none of the k classes.

    Parameters
    ----------
    likely : (k, h, w) float array
    """
    return np.concatenate([1 - likely.sum(0, keepdims=True), likely]).argmax(0).astype(np.uint8)


def border_distance(found: Mask, truth: Mask, percent: float = 95.0) -> float | None:
    """Return how far the borders of two masks lie apart, in px.

    A percentile of the distances from each border px to the other's border, both ways together
    (Hausdorff distance where it is 100). None where one mask is empty and the other is not.

    Parameters
    ----------
    found, truth : (h, w) bool array
    percent : float
    """
    if not found.any() and not truth.any():
        return 0.0
    if not found.any() or not truth.any():
        return None
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (found, truth)]
    away = [ndimage.distance_transform_edt(~border) for border in borders]
    both = np.concatenate([away[1][borders[0]], away[0][borders[1]]])
    return float(np.percentile(both, percent))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, np.float64)
