"""Rounds off the mask of a whole slide: what is narrower than a square goes, such gaps too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The authors' square, in px of the model's scale.
SIDE = 71


def side_px(micrometres: float | None, mpp: float) -> int | None:
    """Return the side of the square in px, odd; None, which means off, of None or less than 3 px.

    Parameters
    ----------
    micrometres : float, optional
    mpp : float
        µm per px of the mask.
    """
    if micrometres is None:
        return None
    half = int(micrometres / mpp / 2)
    return 2 * half + 1 if half else None


def rounded(mask: NDArray[np.bool_], side: int | None = SIDE) -> NDArray[np.bool_]:
    """Open and then close a mask with a square.

    Made for the stitched mask of a slide: at the borders of single tiles it would cut. Nests and
    gaps narrower than the square are lost, so it can be left out.

    Parameters
    ----------
    mask : (h, w) bool array
        What lies beyond its border is taken for whatever suits.
    side : int, optional
        Of the square in px, odd; None leaves the mask as it is.

    Raises
    ------
    ValueError
        If the side is not an odd positive number.
    """
    if side is None:
        return mask.copy()
    if side < 1 or side % 2 == 0:
        raise ValueError(f"the side must be an odd number of px, not {side}")
    if not mask.size:
        return mask.copy()
    square = np.ones((side, side), np.uint8)
    found = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, square)
    return cv2.morphologyEx(found, cv2.MORPH_CLOSE, square).astype(bool)
