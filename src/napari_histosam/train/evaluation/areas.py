"""Figures for areas: how a map of classes compares with the truth, by px and by border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

IGNORED = 255


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
