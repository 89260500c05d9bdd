"""What may lie under a click: regions at several thresholds and two scales, rated by shape.

Each threshold between the density around the click and the density at it gives the region under
the click, whole and divided at its necks. A linear estimate of IoU from a few measures of each
region ranks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.models.classical import regions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

RADIUS = 50
_STEPS = 10
_SNAP = 2
_MIN_AREA = 12
# Least squares of IoU on 1 and the measures below, over the regions that this module offers for
# 1,262 nuclei and glands with known outlines (none of them in the images that the tests use).
WEIGHTS = np.array([0.343, 0.106, 0.306, 0.093, 0.0715, -0.0105, -0.523, -0.213])
# Below this density step (8-bit units) there is nothing but noise under the click.
_CLEAR_STEP = 30.0


@dataclass(frozen=True)
class Region:
    """A region that may be meant.

    Parameters
    ----------
    mask : (h, w) bool array
        In the crop around the click.
    origin : tuple of int
        Left and top of the crop in window px.
    factor : int
        Window px per crop px.
    score : float
        Estimated IoU, 0 to 1: rough, by rules of thumb.
    """

    mask: Mask
    origin: tuple[int, int]
    factor: int
    score: float

    def holds(self, x: float, y: float) -> bool:
        """Tell whether a point (window px, corner based) lies in the region."""
        column = int((x - self.origin[0]) // self.factor)
        row = int((y - self.origin[1]) // self.factor)
        height, width = self.mask.shape
        return 0 <= column < width and 0 <= row < height and bool(self.mask[row, column])

    def paste(self, shape: tuple[int, int]) -> Mask:
        """Return the region as a mask of the window, (height, width)."""
        mask = self.mask
        if self.factor > 1:
            # Enlarged as grey, then cut at one half: a smooth border in place of steps.
            grey = mask.astype(np.float32)
            size = (mask.shape[1] * self.factor, mask.shape[0] * self.factor)
            mask = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR) >= 0.5
        out = np.zeros(shape, bool)
        left, top = self.origin
        part = mask[: shape[0] - top, : shape[1] - left]
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out


def regions_at(stain: NDArray[np.uint8], x: float, y: float, factor: int = 1) -> list[Region]:
    """Return the regions that may be meant by a click, the best first.

    Parameters
    ----------
    stain : (height, width) uint8 array
        Haematoxylin density.
    x, y : float
        The click in window px, corner based.
    factor : int
        Window px per px of ``stain``.
    """
    found = [
        Region(mask, origin, factor, rate(measures, step))
        for mask, origin, measures, step in measured(stain, x, y, factor)
    ]
    return sorted(found, key=lambda region: -region.score)


def rate(measures: list[float], step: float) -> float:
    """Return the estimated IoU of a region, 0 to 1."""
    linear = float(np.dot(WEIGHTS, [1.0, *measures]))
    return min(max(linear, 0.01), 0.99) * min(step / _CLEAR_STEP, 1.0)


def measured(
    stain: NDArray[np.uint8], x: float, y: float, factor: int
) -> Iterator[tuple[Mask, tuple[int, int], list[float], float]]:
    """Yield each region as mask in its crop, crop origin, measures and the step of density."""
    height, width = stain.shape
    px = min(max(int(x / factor), 0), width - 1)
    py = min(max(int(y / factor), 0), height - 1)
    left, top = max(px - RADIUS, 0), max(py - RADIUS, 0)
    crop = stain[top : py + RADIUS + 1, left : px + RADIUS + 1]
    at = (px - left, py - top)
    near = crop[
        max(at[1] - _SNAP, 0) : at[1] + _SNAP + 1, max(at[0] - _SNAP, 0) : at[0] + _SNAP + 1
    ]
    inside = float(np.percentile(near, 75))
    low, high = (float(v) for v in np.percentile(crop, (10, 99)))
    slope = cv2.magnitude(cv2.Sobel(crop, cv2.CV_32F, 1, 0), cv2.Sobel(crop, cv2.CV_32F, 0, 1))
    origin = (left * factor, top * factor)
    done: set[bytes] = set()
    for number in range(1, _STEPS):
        level = low + (inside - low) * number / _STEPS
        seed = _seed(crop, level, at)
        if seed is None:
            continue
        whole = regions.filled(regions.under(crop > level, *seed))
        for mask in (whole, regions.lobe_under(whole, *seed)):
            key = np.packbits(mask).tobytes()
            if key in done or mask.sum() < _MIN_AREA:
                continue
            done.add(key)
            yield mask, origin, _measures(mask, slope, at, high - low, factor), inside - low


def _seed(crop: NDArray[np.uint8], level: float, at: tuple[int, int]) -> tuple[int, int] | None:
    # A click beside the dark clump of a pale nucleus still means it.
    x, y = at
    top, left = max(y - _SNAP, 0), max(x - _SNAP, 0)
    rows, columns = np.nonzero(crop[top : y + _SNAP + 1, left : x + _SNAP + 1] > level)
    if not len(rows):
        return None
    nearest = int(((rows + top - y) ** 2 + (columns + left - x) ** 2).argmin())
    return int(columns[nearest]) + left, int(rows[nearest]) + top


def _measures(
    mask: Mask, slope: NDArray[Any], at: tuple[int, int], span: float, factor: int
) -> list[float]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=len)
    xs, ys = contour[:, 0, 0], contour[:, 0, 1]
    area = float(mask.sum())
    solid = max(cv2.contourArea(contour), 1.0) / max(cv2.contourArea(cv2.convexHull(contour)), 1.0)
    sharp = math.log(float(slope[ys, xs].mean()) + 1) - math.log(span + 10)
    right, bottom = mask.shape[1] - 1, mask.shape[0] - 1
    cut = float(((xs == 0) | (ys == 0) | (xs == right) | (ys == bottom)).mean())
    off = math.hypot(float(xs.mean()) - at[0], float(ys.mean()) - at[1]) / math.sqrt(area)
    size = math.log(area)
    return [sharp, solid, cut, size, size * size, min(off, 1.0), float(factor > 1)]
