"""Small operations on binary regions: the part under a point, lobes, holes, smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


def otsu(values: NDArray[np.uint8]) -> float:
    """Return Otsu's threshold (Otsu 1979) of 8-bit values; pixels above it are foreground."""
    flat = np.ascontiguousarray(values).reshape(-1, 1)
    level, _ = cv2.threshold(flat, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(level)


def under(mask: Mask, x: int, y: int) -> Mask:
    """Return the 4-connected part of a mask at pixel (x, y); empty if the mask is not there."""
    if not mask[y, x]:
        return np.zeros_like(mask)
    marked = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    flags = 4 | (1 << 8) | cv2.FLOODFILL_MASK_ONLY
    cv2.floodFill(mask.astype(np.uint8), marked, (x, y), 1, flags=flags)
    return marked[1:-1, 1:-1] > 0


def largest(mask: Mask) -> Mask:
    """Return the largest part of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count <= 2:
        return mask
    return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def filled(mask: Mask) -> Mask:
    """Return a mask without holes."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(out, contours, -1, 1, cv2.FILLED)
    return out > 0


def opened(mask: Mask, radius: int = 1) -> Mask:
    """Return a mask without spurs thinner than about twice the radius (px)."""
    side = 2 * radius + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # What the window cuts is no spur: treat the outside as more of the same.
    padded = np.pad(mask.astype(np.uint8), side, mode="edge")
    out = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)
    return out[side:-side, side:-side] > 0


def lobes(mask: Mask, depth: float = 0.15) -> NDArray[np.int32]:
    """Divide a mask at its necks: watershed of the distance to its border.

    Parameters
    ----------
    mask : (height, width) bool array
    depth : float
        A lobe's centre must be deeper than the neck by this share of the greatest depth.

    Returns
    -------
    (height, width) int32 array
        1 to n in the lobes, 0 outside.
    """
    from skimage.segmentation import watershed

    # Only the part that holds the mask: the reconstruction sorts all pixels that it is given.
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    place = (slice(top, top + height), slice(left, left + width))
    padded = np.pad(mask[place], 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    distance = cv2.GaussianBlur(distance, (0, 0), 1.0) * padded
    step = max(1.0, depth * float(distance.max()))
    floor = under_ceiling(np.maximum(distance - step, 0), distance)
    tops = (distance - floor >= 0.999 * step).astype(np.uint8)
    count, markers = cv2.connectedComponents(tops)
    if count <= 2:
        return mask.astype(np.int32)
    out = np.zeros(mask.shape, np.int32)
    out[place] = watershed(-distance, markers, mask=padded > 0)[1:-1, 1:-1]
    return out


def under_ceiling(start: NDArray[np.float32], ceiling: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grow grey values from pixel to pixel as far as the ceiling lets them (reconstruction)."""
    kernel = np.ones((3, 3), np.uint8)
    while True:
        grown = np.minimum(cv2.dilate(start, kernel), ceiling)
        if np.array_equal(grown, start):
            return start
        start = grown


def lobe_under(mask: Mask, x: int, y: int) -> Mask:
    """Return the lobe of a mask at pixel (x, y), or the whole mask if it has but one."""
    labels = lobes(mask)
    at = labels[y, x]
    return labels == at if at else mask


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> Mask:
    """Return a disc around (x, y) in corner-based px, clipped to the array."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2


def overlap(first: Mask, second: Mask) -> float:
    """Return the intersection over union of two masks; 0 if both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0
