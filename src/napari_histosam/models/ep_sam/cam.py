"""EP-SAM's heat map of a patch: from the classifier's features, over four turns, to a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TURNS = (0, 1, 2, 3)  # quarters, counter-clockwise
_TOP = 255


@dataclass(frozen=True)
class Profile:
    """How a mask is made of a heat map.

    Parameters
    ----------
    percentile : float
        Of the cells that are not zero: what is above it belongs to the mask.
    kernel : int
        Side of the square that the mask is opened with, in px of the patch or in cells.
    enlarged_first : bool
        Cut and open at the size of the patch, not in cells.
    """

    percentile: float
    kernel: int
    enlarged_first: bool


PROFILES = {
    "camelyon16": Profile(10.0, 21, True),
    "camelyon17": Profile(30.0, 5, False),
}


@dataclass(frozen=True)
class Heat:
    """The heat map of one patch.

    Parameters
    ----------
    cells : (h, w) uint8 array
        One for every 16 px of the patch.
    size : tuple of int
        Height and width of the patch.
    """

    cells: NDArray[np.uint8]
    size: tuple[int, int]

    @classmethod
    def of(cls, turned: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> Heat:
        """Make it of what `PatchClassifier.heat` says of the patch in its four turns."""
        parts = [np.rot90(_grey(raw), -turn) for turn, raw in zip(TURNS, turned, strict=True)]
        return cls(np.mean(parts, axis=0).astype(np.uint8), size)

    def weights(self) -> NDArray[np.float32]:
        """Return the heat at every px, (height, width), stretched to 0 to 1."""
        cells = self.cells.astype(np.float64)
        low, high = cells.min(), cells.max()
        return _enlarged(((cells - low) / (high - low + 1e-8)).astype(np.float32), self.size)

    def mask(self, profile: Profile) -> NDArray[np.bool_]:
        """Return the px, (height, width), that the heat map takes for tumour; perhaps none."""
        warm = self.cells[self.cells > 0]
        if not len(warm):
            return np.zeros(self.size, bool)
        least = np.percentile(warm, profile.percentile)
        square = np.ones((profile.kernel, profile.kernel), np.uint8)
        grid = _enlarged(self.cells, self.size) if profile.enlarged_first else self.cells
        found = cv2.morphologyEx((grid > least).astype(np.uint8), cv2.MORPH_OPEN, square)
        if not profile.enlarged_first:
            found = _enlarged(found, self.size)
        return np.asarray(found > 0)


def turned(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return a patch (h, w, 3) turned counter-clockwise by quarters."""
    return np.ascontiguousarray(np.rot90(image, turn))


def _grey(raw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return what speaks for tumour, stretched to 0 to 255; all zero where nothing does."""
    for_it = np.maximum(raw, 0)
    for_it = for_it - for_it.min()
    top = for_it.max()
    if top <= 0:
        return np.zeros(raw.shape, np.uint8)
    return (for_it / top * _TOP).astype(np.uint8)


def _enlarged(cells: NDArray, size: tuple[int, int]) -> NDArray:
    return cv2.resize(cells, size[::-1], interpolation=cv2.INTER_LINEAR)
