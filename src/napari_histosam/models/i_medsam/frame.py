"""Windows, boxes and points in I-MedSAM's square, and the part of the window that it draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.i_medsam.points import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.protocols import ObjectPrompts

# Room around a box: a share of its longer side, at least so many px of the window.
_MARGIN, _LEAST = 0.1, 8.0


def pixels(image: NDArray[np.uint8], side: int) -> Tensor:
    """Return (1, 3, side, side) of 0 to 1: bilinear, the aspect not kept, not normalised."""
    if image.shape[:2] != (side, side):
        image = np.asarray(
            cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


def in_square(prompts: ObjectPrompts, size: tuple[int, int], side: int, name: str) -> ObjectPrompts:
    """Return checked prompts of one object in px of the square, corner based.

    Upstream's boxes are inclusive pixel indices: the last one is one less than the right edge.
    A mask becomes the box around it, as I-MedSAM never learned from masks.

    Parameters
    ----------
    prompts : ObjectPrompts
    size : tuple of int
        Width and height of the window in px.
    side : int
    name : str
        Of the model, for the message.

    Raises
    ------
    InputError
        If no point and no box is left.
    """
    factor = np.array([side / size[0], side / size[1]])
    points = None if prompts.points is None else prompts.points * factor
    box = prompts.box if prompts.box is not None else _box_of(prompts.mask)
    if box is None and points is None:
        raise InputError(f"{name} answers boxes, and there is none: drag one round the object.")
    if box is not None:
        # An index i is what `Frame.points` makes of i + 0.5.
        box = np.concatenate([box[:2] * factor + 0.5, box[2:] * factor - 0.5])
    return replace(prompts, points=points, box=box, mask=None, logits=None)


def region_of(prompts: ObjectPrompts, size: tuple[int, int]) -> Region:
    """Return which part of a window (width, height) is drawn for checked prompts.

    The box with a margin, as I-MedSAM learned from boxes that hold their object; all of the
    window where there is no box.
    """
    box = prompts.box if prompts.box is not None else _box_of(prompts.mask)
    if box is None:
        return Region(0, 0, *size)
    margin = max(_MARGIN * float((box[2:] - box[:2]).max()), _LEAST)
    low, high = np.floor(box[:2] - margin), np.ceil(box[2:] + margin)
    left, top = (int(np.clip(low[i], 0, size[i] - 1)) for i in range(2))
    right, bottom = (int(np.clip(high[i], (left, top)[i] + 1, size[i])) for i in range(2))
    return Region(left, top, right, bottom)


def on_grid(region: Region, size: tuple[int, int], grid: tuple[int, int]) -> Region:
    """Return the part of a grid over a window that covers a region of the window.

    Parameters
    ----------
    region : Region
    size : tuple of int
        Width and height of the window in px.
    grid : tuple of int
        Height and width of the grid.
    """
    x, y = grid[1] / size[0], grid[0] / size[1]
    return Region(
        int(np.floor(region.left * x)),
        int(np.floor(region.top * y)),
        min(int(np.ceil(region.right * x)), grid[1]),
        min(int(np.ceil(region.bottom * y)), grid[0]),
    )


def _box_of(mask: NDArray[np.bool_] | None) -> NDArray[np.float64] | None:
    if mask is None or not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
