"""Finds the nuclei of a window: local threshold of the haematoxylin, then watershed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.models.automatic import Detections
from napari_histosam.models.classical.regions import under_ceiling
from napari_histosam.models.classical.stain import UNITS, haematoxylin

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A pixel is compared with the stain this far around it (window px), never with the whole window:
# so an object looks the same in whichever tile it is seen.
AROUND = 64
# It is dark if it lies this many standard deviations above the mean around it, within limits
# (natural-log density) that keep bare glass empty and crowded nuclei whole.
_LIFT = 0.6
_LEAST, _MOST = 0.3 * UNITS, 1.2 * UNITS
# A lobe's centre must be deeper than its neck by this share of its depth, and half a px.
_NECK = 0.1
_SMALLEST_PX, _LARGEST_PX = 40, 5000
_LARGEST_HOLE_PX = 150
# Mean darkness above the threshold that gives a score of 0.63.
_CLEAR = 20.0


def find_nuclei(image: NDArray[np.uint8]) -> Detections:
    """Find all nuclei of a window.

    The threshold is the local mean plus a share of the local deviation (Niblack 1986), what is
    dark is divided by a watershed of its distance transform (Vincent and Soille 1991). Everything
    is decided from at most about 100 px around an object.

    Parameters
    ----------
    image : (height, width, 3) uint8 RGB array
        About 0.25 to 0.5 µm per px.

    Returns
    -------
    Detections
        Of class 0. The score is no estimate of a probability: it grows with the contrast and with
        how convex the outline is.
    """
    excess = _excess(image)
    labels = _divided(_tidied(excess > 0))
    found = []
    for number, place in enumerate(_boxes(labels), 1):
        if place is None:
            continue
        mask = labels[place] == number
        area = int(np.count_nonzero(mask))
        if _SMALLEST_PX <= area <= _LARGEST_PX:
            clear = 1 - math.exp(-float(excess[place][mask].mean()) / _CLEAR)
            found.append((clear * _convexity(mask, area), place, mask))
    found.sort(key=lambda one: -one[0])
    if not found:
        return Detections.none()
    boxes = [(p[1].start, p[0].start, p[1].stop, p[0].stop) for _, p, _ in found]
    return Detections(
        np.array(boxes, np.float64),
        np.array([score for score, _, _ in found]),
        np.zeros(len(found), np.int64),
        tuple(mask for _, _, mask in found),
        np.array(boxes, np.int64)[:, :2],
    )


def _excess(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return by how much each pixel's stain lies above its threshold."""
    stain = haematoxylin(image).astype(np.float32)
    side = (2 * AROUND + 1, 2 * AROUND + 1)
    mean = cv2.blur(stain, side, borderType=cv2.BORDER_REFLECT)
    square = cv2.blur(stain * stain, side, borderType=cv2.BORDER_REFLECT)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    return np.asarray(stain - np.clip(mean + _LIFT * spread, _LEAST, _MOST), np.float32)


def _tidied(dark: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask without spurs and small holes."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, disc)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    hole = stats[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE_PX
    hole[0] = False
    mask[hole[parts]] = 1
    return np.asarray(mask, np.uint8)


def _divided(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the lobes of a mask, numbered from 1."""
    from skimage.segmentation import watershed

    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = cv2.GaussianBlur(depth, (0, 0), 1.0) * mask
    floor = under_ceiling(np.maximum(depth * (1 - _NECK) - 0.5, 0), depth)
    tops = (depth - floor >= 0.999 * (depth * _NECK + 0.5)) & (depth > 1)
    _, markers = cv2.connectedComponents(tops.astype(np.uint8), connectivity=8)
    return np.asarray(watershed(-depth, markers, mask=mask > 0), np.int32)


def _boxes(labels: NDArray[np.int32]) -> list[tuple[slice, slice] | None]:
    from scipy.ndimage import find_objects

    return find_objects(labels)


def _convexity(mask: NDArray[np.bool_], area: int) -> float:
    """Return the mask's share of its convex hull, 0 to 1."""
    rows, columns = np.nonzero(mask)
    corners = np.column_stack([columns, rows]).astype(np.int32)
    hull = cv2.convexHull(corners)
    # The hull runs through the pixels' centres: half the outline lies outside of it.
    whole = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
    return min(area / whole, 1.0)
