"""The haematoxylin channel of an H&E image as 8-bit density.

Ruifrok and Johnston 2001, colour deconvolution, with the stain vectors of scikit-image's
``rgb2hed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Haematoxylin, eosin, DAB: absorbance of red, green, blue (rows are stains).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_TO_HAEMATOXYLIN = np.linalg.inv(_STAINS)[:, :1].T.astype(np.float32)
# Natural-log density of each grey value; 0 counts as 1 so that black stays finite.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
# Density 3 (5 % of the light) fills the 8 bits.
UNITS = 85.0
_COARSE = 4


def haematoxylin(image: NDArray[np.uint8], blur: float = 1.0) -> NDArray[np.uint8]:
    """Return the haematoxylin density of an image.

    Parameters
    ----------
    image : (height, width, 3) uint8 RGB array
    blur : float
        Sigma in px of the Gaussian that quiets single pixels.

    Returns
    -------
    (height, width) uint8 array
        85 per unit of natural-log density, cut at 255.
    """
    density = cv2.LUT(np.ascontiguousarray(image), _DENSITY)
    stain = cv2.GaussianBlur(cv2.transform(density, _TO_HAEMATOXYLIN), (0, 0), blur)
    return np.clip(stain * UNITS, 0, 255).astype(np.uint8)


def coarse_haematoxylin(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Return the density of the image shrunk 4 times (area average), and that factor."""
    size = (max(image.shape[1] // _COARSE, 1), max(image.shape[0] // _COARSE, 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return haematoxylin(small.astype(np.uint8, copy=False)), _COARSE
