"""Corrects a mask: clicks add or cut discs at its border, the border moves to the stain's edge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.models.classical import regions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Points = Sequence[tuple[float, float]]

# A click at the deepest point of an error lies about the error's half width from the border.
_REACH = 1.2
_MOST = 60.0
_FAR, _CONFINED = 1.5, 0.9
# No cut comes closer to a positive click than this share of the way to it.
_SPARE = 0.7
_DISC, _SEED = 6.0, 2.0


def edited(
    mask: Mask,
    positives: Points,
    negatives: Points,
    under: Callable[[tuple[float, float]], Mask | None] = lambda _: None,
) -> Mask:
    """Return a mask that holds every positive click and no negative one beside it.

    A positive click outside adds what lies under it if that is no larger than the gap suggests,
    else a disc that reaches a little into the mask; a negative one inside cuts a disc that
    reaches a little beyond the border; what is then joined to no positive click goes. Without any
    mask, a positive click makes a small disc.

    Parameters
    ----------
    mask : (height, width) bool array
    positives, negatives : sequences of (x, y) in window px, corner based, inside the window
    under : callable of (x, y) -> (height, width) bool array or None
        What may be meant by a click.
    """
    out = mask.copy()
    for click in positives:
        if not out[pixel(click)]:
            depth = _depth(~out, click) if out.any() else None
            radius = _DISC if depth is None else min(depth * _REACH + 1, _MOST)
            near = regions.disc(mask.shape, *click, _FAR * radius)
            found = under(click) if depth is not None else None
            if found is None or (found & near).sum() < _CONFINED * found.sum():
                found = regions.disc(mask.shape, *click, radius)
            out |= found
    for click in negatives:
        if out[pixel(click)]:
            radius = min(_depth(np.pad(out, 1), (click[0] + 1, click[1] + 1)) * _REACH + 1, _MOST)
            for x, y in positives:
                radius = min(radius, _SPARE * math.hypot(x - click[0], y - click[1]))
            out &= ~regions.disc(mask.shape, *click, max(radius, 1.0))
    if not positives:
        return out
    kept = np.zeros_like(out)
    for click in positives:
        if not out[pixel(click)]:
            out |= regions.disc(mask.shape, *click, _SEED)
        out[pixel(click)] = True
        if not kept[pixel(click)]:
            row, column = pixel(click)
            kept |= regions.under(out, column, row)
    return kept


def snapped(mask: Mask, stain: NDArray[np.uint8]) -> Mask:
    """Return a mask whose border, within a narrow band, follows Otsu's threshold."""
    area = int(mask.sum())
    if not area:
        return mask
    reach = int(min(max(2, round(0.06 * area**0.5)), 12))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    plain = mask.astype(np.uint8)
    outer = cv2.dilate(plain, kernel) > 0
    inner = cv2.erode(plain, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    dark = stain > regions.otsu(stain[outer])
    moved = regions.opened(inner | (outer & dark))
    return regions.filled(moved) if moved.any() else mask


def pixel(click: tuple[float, float]) -> tuple[int, int]:
    """Return row and column of the pixel that holds a point."""
    return int(click[1]), int(click[0])


def _depth(mask: Mask, click: tuple[float, float]) -> float:
    """Distance (px) from a pixel of the mask to what is not the mask."""
    rows, columns = np.nonzero(~mask)
    if not len(rows):
        return _MOST
    row, column = pixel(click)
    return math.sqrt(float(((rows - row) ** 2 + (columns - column) ** 2).min()))
