"""Where the tissue is: a quick mask from the thumbnail, to know what is worth fetching ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.slide.slide import Slide

# Glass is grey and bright: how far R, G and B may lie apart, how dark it may be, and how much
# darker than the rest of it (8-bit).
_GLASS_SPREAD, _GLASS_GREY, _DARKER = 12, 190, 12


@dataclass(frozen=True)
class TissueMask:
    """A coarse tissue mask.

    Parameters
    ----------
    mask : (h, w) bool array
    scale : tuple of float
        Level-0 px per mask px along x and y.
    """

    mask: NDArray[np.bool_] = field(repr=False)
    scale: tuple[float, float]

    def fraction(self, left: float, top: float, right: float, bottom: float) -> float:
        """Return the share (0 to 1) of a level-0 box that is tissue; outside counts as none."""
        h, w = self.mask.shape
        x0, x1 = left / self.scale[0], right / self.scale[0]
        y0, y1 = top / self.scale[1], bottom / self.scale[1]
        area = (x1 - x0) * (y1 - y0)
        if not area > 0:
            return 0.0
        across = np.arange(max(math.floor(x0), 0), min(math.ceil(x1), w))
        down = np.arange(max(math.floor(y0), 0), min(math.ceil(y1), h))
        if not (across.size and down.size):
            return 0.0
        wx = np.minimum(x1, across + 1) - np.maximum(x0, across)
        wy = np.minimum(y1, down + 1) - np.maximum(y0, down)
        part = self.mask[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
        return float(wy @ part @ wx / area)


def find_anything(slide: Slide, max_px: int = 2048) -> TissueMask:
    """Find all that is not bare glass; for work that must not leave out a single pale cell.

    What differs from the commonest bright grey by colour (max - min of R, G, B) or by darkness is
    something. Unlike `find_tissue`, nothing is dropped for being small, and a picture that shows
    nothing but tissue has no glass.

    Parameters
    ----------
    slide : Slide
    max_px : int
        Longest side of the thumbnail that is looked at.
    """
    import cv2

    image = slide.thumbnail(max_px)
    h, w = image.shape[:2]
    spread = np.ptp(image, axis=-1)
    grey = image.mean(-1)
    glass = (spread <= _GLASS_SPREAD) & (grey >= _GLASS_GREY)
    level = float(np.median(grey[glass])) if glass.any() else 255.0
    mask = ((spread > _GLASS_SPREAD) | (grey < level - _DARKER)).astype(np.uint8)
    # One px more all round: what a px of the thumbnail only touches may have a faint trace in it.
    mask = np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), np.uint8)
    return TissueMask(mask > 0, (slide.width / w, slide.height / h))


def find_tissue(slide: Slide, max_px: int = 1024) -> TissueMask:
    """Find tissue by colour saturation.

    Saturation (max - min of R, G, B, smoothed) is split by Otsu's method (N. Otsu, 1979); specks
    of less than about 0.02 % of the picture are dropped and pinholes closed. The threshold is kept
    above 8 of 255, so that a slide of bare glass has no tissue.

    Parameters
    ----------
    slide : Slide
    max_px : int
        Longest side of the thumbnail that is looked at.
    """
    import cv2
    from skimage.filters import threshold_otsu

    image = slide.thumbnail(max_px)
    h, w = image.shape[:2]
    spread = np.ptp(image, axis=-1).astype(np.uint8)
    spread = cv2.GaussianBlur(spread, (5, 5), 0)
    threshold = max(float(threshold_otsu(spread)) if spread.min() < spread.max() else 255.0, 8.0)
    mask = (spread > threshold).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, bool)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= max(h * w * 2e-4, 4)
    return TissueMask(keep[labels], (slide.width / w, slide.height / h))
