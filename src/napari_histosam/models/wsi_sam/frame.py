"""Prompts of the fine window in the coarse one, and drawn masks as WSI-SAM knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.sam.build import SIDE
from napari_histosam.models.sam.frame import LOW, Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts

# The coarse window shows this many times as much along each side.
RATIO = 2
# WSI-SAM learned from masks of 0 and 255 where SAM takes logits.
_INSIDE = 255.0


def frame_of(size: tuple[int, int]) -> Frame:
    """Return where a window lies in the network's square: at the top left, as large as it is.

    Raises
    ------
    InputError
        If the window is larger than the square: scaling it would change the µm per px.
    """
    if max(size) > SIDE:
        raise InputError(
            f"A window of WSI-SAM has at most {SIDE} px along a side, not {size[0]} x {size[1]}: "
            "cut a smaller one."
        )
    return Frame(size, scaled=False)


def to_coarse(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Map fine window px (..., 2) to coarse window px of the same place; both corner based.

    Upstream halves pixel *indices* and adds a quarter of the window, which lies 0.25 coarse px to
    the lower right of the exact place; the weights learned it so.

    Parameters
    ----------
    points : (..., 2) float array
    size : tuple of int
        Width and height of either window in px.
    """
    quarter = np.array(size, np.float64) * (RATIO - 1) / (2 * RATIO)
    return (points - 0.5) / RATIO + quarter + 0.5


def in_both(prompts: ObjectPrompts, size: tuple[int, int]) -> tuple[ObjectPrompts, ObjectPrompts]:
    """Return checked prompts of one object for the fine and for the coarse window.

    Points and boxes are moved. A mask becomes a grid of 0 and 255, in the coarse window with
    nothing outside the fine one. Logits of an earlier answer count only where there is nothing
    else: WSI-SAM never learned to correct a mask by clicks, and all clicks are here again.
    """
    points = None if prompts.points is None else to_coarse(prompts.points, size)
    box = None
    if prompts.box is not None:
        box = to_coarse(prompts.box.reshape(2, 2), size).reshape(4)
    fine_grid = coarse_grid = None
    mask = prompts.mask
    if mask is None and points is None and box is None:
        mask = _mask_of(prompts.logits, size)
    if mask is not None:
        fine_grid, coarse_grid = _grid(mask), _grid(_shrunk(mask))
    return (
        replace(prompts, mask=None, logits=fine_grid),
        replace(prompts, points=points, box=box, mask=None, logits=coarse_grid),
    )


def _mask_of(logits: NDArray[np.float32] | None, size: tuple[int, int]) -> NDArray[np.bool_]:
    given = np.asarray(logits, np.float32)
    if given.shape != (LOW, LOW) or not np.isfinite(given).all():
        raise InputError(
            f"Logits of a previous answer must be {LOW} x {LOW} finite numbers, not "
            f"{given.shape}: hand in an answer of this model."
        )
    return (frame_of(size).window_logits(torch.from_numpy(given)[None])[0] > 0).numpy()


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the cover (h, w) of a fine window's mask by the pixels of the coarse window."""
    height, width = mask.shape
    size = max(width // RATIO, 1), max(height // RATIO, 1)
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    out = np.zeros(mask.shape, np.float32)
    left, top = round(width / 4), round(height / 4)
    part = out[top : top + size[1], left : left + size[0]]
    part[:] = small[: part.shape[0], : part.shape[1]]
    return out


def _grid(mask: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 255 in those cells (256, 256) of the square that a mask (h, w) covers by half."""
    square = np.zeros((SIDE, SIDE), np.float32)
    square[: mask.shape[0], : mask.shape[1]] = mask
    cell = SIDE // LOW
    cover = square.reshape(LOW, cell, LOW, cell).mean((1, 3))
    least = min(0.5, float(cover.max()))  # what is smaller than a cell shall not get lost
    inside = (cover >= least) & (cover > 0)
    return np.where(inside, _INSIDE, 0.0).astype(np.float32)
