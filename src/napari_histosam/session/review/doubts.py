"""The doubts that columns and outlines raise: score, size, shape, first mask against outline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.session.review.queue import Doubt
from napari_histosam.session.review.unusual import deviations

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.session.review.candidates import Candidates
    from napari_histosam.store import ObjectStore

# Robust deviations from which on a size or a shape counts as an outlier.
FAR = 3.0
# A first mask that overlaps the outline by more (IoU) was right.
RIGHT = 0.9
# Scores below this are called low.
LOW = 0.7
_CHUNK = 1000


def low_score(of: Candidates) -> Doubt:
    """Return the list of all scored objects, lowest score first."""

    def words(i: int) -> str:
        return f"low score {of.scores[i]:.2f}" if of.scores[i] < LOW else ""

    return Doubt("score", 1 - of.scores, words)


def odd_size(of: Candidates) -> Doubt:
    """Return the list of objects whose area is far from the median of their class.

    Measured on the logarithm, so that twice and half are equally far and units do not matter.
    """
    logs = np.log(of.areas)[:, None]
    z, usual = deviations(logs, of.groups)
    ratio = np.exp(logs[:, 0] - usual[:, 0])

    def words(i: int) -> str:
        than = f"than most {_kind(of.classes[i])}"
        if ratio[i] >= 1:
            return f"{_times(ratio[i])}x larger {than}"
        return f"{_times(1 / ratio[i])}x smaller {than}"

    return Doubt("size", _beyond(np.abs(z[:, 0]), FAR), words)


def odd_shape(of: Candidates, ruggedness: NDArray[np.float64]) -> Doubt:
    """Return the list of objects whose outline is far longer for its area than in most of a class.

    Parameters
    ----------
    of : Candidates
    ruggedness : (n,) float array
        Perimeter² / (4 pi area), 1 for a disc; NaN where unknown.
    """
    z, _ = deviations(np.log(ruggedness)[:, None], of.groups)

    def words(i: int) -> str:
        return f"more ragged or elongated than most {_kind(of.classes[i])}"

    return Doubt("shape", _beyond(z[:, 0], FAR), words)


def first_mask(agreement: NDArray[np.float64]) -> Doubt:
    """Return the list of objects that the model first drew otherwise.

    Parameters
    ----------
    agreement : (n,) float array
        IoU of the model's first mask and the outline; NaN without a first mask.
    """

    def words(i: int) -> str:
        return f"the model's first mask overlaps it by only {agreement[i]:.0%}"

    return Doubt("first mask", _beyond(1 - agreement, 1 - RIGHT), words)


def measure(
    store: ObjectStore, of: Candidates, step: Callable[[int], None] = lambda done: None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read outlines and first masks, chunk by chunk.

    Returns
    -------
    ruggedness, agreement : (n,) float arrays
        As `odd_shape` and `first_mask` take them.
    """
    ruggedness = np.full(len(of), np.nan)
    agreement = np.full(len(of), np.nan)
    for start in range(0, len(of), _CHUNK):
        numbers = of.numbers[start : start + _CHUNK]
        rows = store.review_outlines(numbers.tolist())
        step(min(start + _CHUNK, len(of)))
        if not rows:
            continue
        at = start + np.searchsorted(numbers, [row[0] for row in rows])
        shapes = np.asarray(shapely.from_wkb([row[1] for row in rows]), object)
        area = np.maximum(shapely.area(shapes), 1e-9)
        ruggedness[at] = np.maximum(shapely.length(shapes) ** 2 / (4 * np.pi * area), 1)
        same = np.array([row[2] is not None and row[1] == row[2] for row in rows], bool)
        agreement[at[same]] = 1.0
        other = np.flatnonzero([row[2] is not None and row[1] != row[2] for row in rows])
        if len(other):
            firsts = shapely.make_valid(
                np.asarray(shapely.from_wkb([rows[i][2] for i in other]), object)
            )
            agreement[at[other]] = iou(shapely.make_valid(shapes[other]), firsts)
    return ruggedness, agreement


def iou(a: NDArray[np.object_], b: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the intersection over union of valid geometries, pair by pair; 0 for empty ones."""
    both = shapely.area(shapely.intersection(a, b))
    either = shapely.area(a) + shapely.area(b) - both
    return np.asarray(both / np.maximum(either, 1e-9), np.float64)


def _beyond(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return the values above a limit, NaN in place of the others."""
    with np.errstate(invalid="ignore"):
        return np.where(values > least, values, np.nan)


def _kind(class_name: str | None) -> str:
    return class_name or "unclassified objects"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
