"""What a user would do next: boxes round an object, clicks in it, clicks where a mask is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

# An error of fewer px is not worth a click.
_LEAST_ERROR = 4


class Click(NamedTuple):
    """A click: x, y in px, corner based, and whether it is positive."""

    x: float
    y: float
    positive: bool


def tight_box(mask: Mask) -> NDArray[np.float64] | None:
    """Return left, top, right, bottom of a mask, corner based, or None if it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def jittered(
    box: NDArray[np.float64], share: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a box with each side moved by up to a share of the box's length across it."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    return box + rng.uniform(-share, share, 4) * np.tile(size, 2)


def deepest_point(mask: Mask) -> tuple[float, float]:
    """Return the centre of the pixel farthest from a mask's outside, as x, y, corner based."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), mask.shape[1])
    return column + 0.5, row + 0.5


def any_point(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """Return the centre of a pixel drawn from a mask that is not empty, as x, y, corner based."""
    places = np.flatnonzero(mask)
    row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return column + 0.5, row + 0.5


def largest_error(truth: Mask, shown: Mask) -> tuple[Mask, bool] | None:
    """Return the largest connected error of a mask, and whether it is a missing part.

    None where all errors are smaller than a few px.
    """
    best: tuple[int, Mask, bool] | None = None
    for missing, error in ((True, truth & ~shown), (False, shown & ~truth)):
        count, parts, table, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8))
        if count > 1:
            largest = 1 + int(table[1:, cv2.CC_STAT_AREA].argmax())
            size = int(table[largest, cv2.CC_STAT_AREA])
            if best is None or size > best[0]:
                best = size, parts == largest, missing
    if best is None or best[0] < _LEAST_ERROR:
        return None
    return best[1], best[2]


def next_click(truth: Mask, shown: Mask) -> Click | None:
    """Return the click deepest inside the largest error, or None where there is none to mend."""
    found = largest_error(truth, shown)
    if found is None:
        return None
    part, missing = found
    return Click(*deepest_point(part), missing)
