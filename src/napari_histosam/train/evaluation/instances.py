"""How well a label map of found objects agrees with the true one: AP50, AJI, PQ and Dice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Labels = NDArray[np.integer]

# From this IoU on, an object counts as found. Above a half, each has at most one partner.
FOUND = 0.5
# The recalls at which COCO reads off the precision.
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Overlaps:
    """How the objects of two label maps overlap.

    Parameters
    ----------
    truth, found : (n,), (m,) int arrays
        Areas in px, by the objects' numbers in rising order.
    both : (n, m) int array
        Common px.
    numbers : (m,) int array
        The numbers of the found objects in their map.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    both: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, (n, m)."""
        union = self.truth[:, None] + self.found[None, :] - self.both
        return self.both / np.maximum(union, 1)


@dataclass(frozen=True)
class ImageFigures:
    """The figures of one image.

    Parameters
    ----------
    n_objects, n_found : int
    aji : float
        Aggregated Jaccard index: Kumar et al., IEEE TMI 2017.
    dq, sq, pq : float
        Detection, segmentation and panoptic quality at IoU > 0.5: Kirillov et al., CVPR 2019.
    dice : float
        Of all px in objects against all px in objects: Dice 1945.
    object_dice : float
        Per object, weighted by area: Sirinukunwattana et al., Medical Image Analysis 2017.
    hits : tuple of (float, bool)
        For each found object its score and whether it is a true one, for `average_precision`.
    """

    n_objects: int
    n_found: int
    aji: float
    dq: float
    sq: float
    pq: float
    dice: float
    object_dice: float
    hits: tuple[tuple[float, bool], ...] = ()


def overlaps(truth: Labels, found: Labels) -> Overlaps:
    """Count the common px of the objects of two label maps of one size, 0 for background.

    Raises
    ------
    ValueError
        If the maps differ in size.
    """
    if truth.shape != found.shape:
        raise ValueError(f"the maps are {truth.shape} and {found.shape}")
    of_truth, a = np.unique(truth, return_inverse=True)
    of_found, b = np.unique(found, return_inverse=True)
    size = (len(of_truth), len(of_found))
    table = np.bincount(a.ravel() * size[1] + b.ravel(), minlength=size[0] * size[1])
    table = table.reshape(size)
    rows, columns = of_truth > 0, of_found > 0
    return Overlaps(
        table.sum(1)[rows],
        table.sum(0)[columns],
        table[np.ix_(rows, columns)],
        of_found[columns].astype(np.int64),
    )


def aji(of: Overlaps) -> float:
    """Return the aggregated Jaccard index.

    Every true object takes the found one of the best IoU (which may serve several); the common px
    of all pairs over their united px, to which the px of found objects that served none are added.
    """
    if not len(of.truth) or not len(of.found):
        return float(len(of.truth) == len(of.found))
    best = of.iou.argmax(1)
    common = of.both[np.arange(len(best)), best]
    met = common > 0
    union = np.where(met, of.truth + of.found[best] - common, of.truth)
    unused = np.setdiff1d(np.arange(len(of.found)), best[met])
    return float(common.sum() / (union.sum() + of.found[unused].sum()))


def panoptic(of: Overlaps) -> tuple[float, float, float]:
    """Return detection, segmentation and panoptic quality."""
    if not len(of.truth) and not len(of.found):
        return 1.0, 1.0, 1.0
    good = of.iou[of.iou > FOUND]
    detection = 2 * len(good) / (len(of.truth) + len(of.found))
    segmentation = float(good.mean()) if len(good) else 0.0
    return detection, segmentation, detection * segmentation


def dice(of: Overlaps) -> float:
    """Return the Dice index of all px in objects."""
    total = of.truth.sum() + of.found.sum()
    return float(2 * of.both.sum() / total) if total else 1.0


def object_dice(of: Overlaps) -> float:
    """Return the object-level Dice index.

    Each object of either map takes the one of the other with the most common px; the Dice indices
    are weighted by area, and the two directions are averaged.
    """
    if not len(of.truth) or not len(of.found):
        return float(len(of.truth) == len(of.found))

    def one_way(own: NDArray[np.int64], other: NDArray[np.int64], both: NDArray[np.int64]) -> float:
        best = both.argmax(1)
        common = both[np.arange(len(own)), best]
        return float((own * 2 * common / (own + other[best])).sum() / own.sum())

    there = one_way(of.truth, of.found, of.both)
    return (there + one_way(of.found, of.truth, of.both.T)) / 2


def hits(of: Overlaps, scores: Sequence[float]) -> tuple[tuple[float, bool], ...]:
    """Return score and truth of each found object; a true object is claimed by the best score.

    Parameters
    ----------
    of : Overlaps
    scores : sequence of float
        In the order of ``of.found``.
    """
    iou = of.iou
    taken = np.zeros(len(of.truth), bool)
    out = []
    for at in np.argsort(-np.asarray(scores, float), kind="stable").tolist():
        open_ = np.where(taken, 0.0, iou[:, at])
        best = int(open_.argmax()) if len(open_) else -1
        good = best >= 0 and bool(open_[best] >= FOUND)
        if good:
            taken[best] = True
        out.append((float(scores[at]), good))
    return tuple(out)


def average_precision(found: Iterable[tuple[float, bool]], n_objects: int) -> float:
    """Return the average precision of all images of a set together.

    The mean of the precision, made non-increasing, at 101 recalls from 0 to 1, as COCO's (Lin et
    al., ECCV 2014) at IoU 0.5.

    Parameters
    ----------
    found : iterable of (float, bool)
        Score and whether it is a true object, of all images (`hits`).
    n_objects : int
        True objects of all images.
    """
    pairs = sorted(found, key=lambda one: -one[0])
    if not n_objects:
        return float(not pairs)
    if not pairs:
        return 0.0
    good = np.cumsum([hit for _, hit in pairs])
    precision = good / np.arange(1, len(pairs) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(good / n_objects, _RECALLS - 1e-12, side="left")
    return float(np.append(precision, 0.0)[at].mean())


def image_figures(truth: Labels, found: Labels, scores: Sequence[float]) -> ImageFigures:
    """Compare two label maps of one image.

    Parameters
    ----------
    truth, found : (h, w) int arrays
        0 for background; where found objects overlap, the better score is on top.
    scores : sequence of float
        ``scores[k - 1]`` is that of the object with the number ``k`` in ``found``.
    """
    of = overlaps(truth, found)
    dq, sq, pq = panoptic(of)
    seen = [scores[number - 1] for number in of.numbers]
    return ImageFigures(
        len(of.truth),
        len(of.found),
        aji(of),
        dq,
        sq,
        pq,
        dice(of),
        object_dice(of),
        hits(of, seen),
    )
