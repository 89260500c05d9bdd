"""Maps pixels by an affine map, with the types that go in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T", np.uint8, np.uint16, np.float32)

NEAREST, LINEAR, CUBIC = cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC


def warped(
    image: NDArray[T],
    matrix: NDArray[np.float64],
    side: int,
    how: int = LINEAR,
    fill: Sequence[float] = (0.0, 0.0, 0.0),
) -> NDArray[T]:
    """Return a square of an image.

    Parameters
    ----------
    image : (h, w) or (h, w, 3) array
    matrix : (2, 3) float array
        From px of the image to px of the square, both counted from pixel centres.
    side : int
    how : int
        `NEAREST`, `LINEAR` or `CUBIC`.
    fill : sequence of float
        What stands beyond the image's border.
    """
    out = cv2.warpAffine(
        image, matrix, (side, side), flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    return np.asarray(out, image.dtype)


def blurred(image: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    """Return an image blurred by a Gaussian of so many px."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
