"""Tidy a mask: keep, drop or join its components, fill its holes, round its edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def keep_under(mask: ArrayLike, points: ArrayLike) -> NDArray[np.bool_]:
    """Keep only the components that lie under points.

    Parameters
    ----------
    mask : (h, w) bool
    points : (n, 2) float
        x, y in the mask's px, corner based; points outside the mask count for nothing.

    Returns
    -------
    (h, w) bool
        Empty if no point lies on a component.
    """
    labels, _ = _components(mask)
    at = np.floor(np.asarray(points, np.float64).reshape(-1, 2))
    h, w = labels.shape
    at = at[(at >= 0).all(1) & (at[:, 0] < w) & (at[:, 1] < h)].astype(np.intp)
    keep = np.unique(labels[at[:, 1], at[:, 0]])
    return np.isin(labels, keep[keep > 0])


def largest(mask: ArrayLike) -> NDArray[np.bool_]:
    """Keep only the largest component (the first in raster order among equals)."""
    labels, areas = _components(mask)
    if not len(areas):
        return np.zeros(labels.shape, np.bool_)
    return labels == 1 + int(np.argmax(areas))


def remove_islands(mask: ArrayLike, min_area: float) -> NDArray[np.bool_]:
    """Drop components of fewer than ``min_area`` pixels."""
    labels, areas = _components(mask)
    return np.concatenate([[False], areas >= min_area])[labels]


def fill_small_holes(mask: ArrayLike, max_area: float | None = None) -> NDArray[np.bool_]:
    """Fill holes of at most ``max_area`` pixels; all of them without a limit.

    A hole is a 4-connected region of unset pixels that does not touch the mask's border.
    """
    pixels = np.asarray(mask, bool)
    labels, areas = _components(~pixels, connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    hole = np.concatenate(
        [[False], np.ones(len(areas), bool) if max_area is None else areas <= max_area]
    )
    hole[np.unique(border)] = False
    return pixels | hole[labels]


def smooth_mask(mask: ArrayLike, radius: int) -> NDArray[np.bool_]:
    """Round the edge by opening and closing with a disc of ``radius`` pixels.

    Outside the mask's border its edge pixels go on, so that an object cut by the window is not
    eaten from there. A mask that opening would erase is returned as it was.
    """
    import cv2

    pixels = np.asarray(mask, bool)
    if radius < 1 or not pixels.any():
        return pixels.copy()
    size = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    grown = np.pad(pixels.astype(np.uint8), size, mode="edge")
    opened = cv2.morphologyEx(grown, cv2.MORPH_OPEN, disc)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc)
    result = np.asarray(closed)[size:-size, size:-size].astype(np.bool_)
    return result if result.any() else pixels.copy()


def _components(
    mask: ArrayLike, connectivity: int = 8
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return labels (0 outside) and the area of each component from label 1 on."""
    import cv2

    pixels = np.ascontiguousarray(np.asarray(mask, bool)).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return np.asarray(labels, np.int32), np.asarray(stats, np.int32)[1:, cv2.CC_STAT_AREA]
