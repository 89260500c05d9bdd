"""Which scales of a window the bundled network looks at, and which crop of each.

The window is encoded at one, a half, a quarter and an eighth of its resolution ("octaves"), so
that one encoding serves a nucleus of 12 px and a gland that fills the window. Within an octave the
decoder sees a crop, in *net px*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.models.small.encoder import MULTIPLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts

COUNT = 4
CROP, CROP_OF_SEVERAL = 96, 80
"""Net px of a crop's side, and where several octaves are tried; a smaller octave is seen whole."""

# The network knows objects best whose area's root, or whose box's longer side, has these net px.
_CLICK_SIDE = 34.0
_LONGEST_BOX = 72.0
# What the prompts and the earlier mask leave free of a crop.
_MARGIN = 24.0
# What pads an octave to full steps, as glass would.
_GROUND = 243


@dataclass(frozen=True)
class Crop:
    """A crop of one octave.

    Parameters
    ----------
    octave : int
    left, top, width, height : int
        Net px, multiples of the encoder's coarsest stride.
    """

    octave: int
    left: int
    top: int
    width: int
    height: int

    @property
    def factor(self) -> int:
        """Window px per net px."""
        return 2**self.octave

    def to_net(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map window px (..., 2) to net px of the crop."""
        return at / self.factor - (self.left, self.top)


def octave_images(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return a window (h, w, 3) at all octaves, padded to sides that the encoder takes."""
    out = []
    height, width = image.shape[:2]
    for octave in range(COUNT):
        size = (max(1, round(width / 2**octave)), max(1, round(height / 2**octave)))
        small = image if octave == 0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        h, w = padded(size[1]), padded(size[0])
        canvas = np.full((h, w, 3), _GROUND, np.uint8)
        canvas[: size[1], : size[0]] = small
        out.append(canvas)
    return out


def padded(side: int) -> int:
    """Return the next multiple of the encoder's coarsest stride."""
    return math.ceil(side / MULTIPLE) * MULTIPLE


def choose(
    prompts: ObjectPrompts, earlier: NDArray[np.bool_] | None, size: tuple[int, int]
) -> list[Crop]:
    """Return the crops to answer an object's prompts from: one, or one per octave.

    A box and an earlier mask say how large the object is; clicks alone do not, so that every
    octave is tried that shows them together.

    Parameters
    ----------
    prompts : ObjectPrompts
        Window px.
    earlier : (h, w) bool array, optional
        The earlier mask, at half the window's resolution.
    size : tuple of int
        Width and height of the window in px.
    """
    corners = []
    if prompts.points is not None and len(prompts.points):
        corners.append(np.clip(prompts.points, 0, size))
    if prompts.box is not None:
        corners.append(np.clip(prompts.box.reshape(2, 2), 0, size))
    bounds = None if earlier is None else _bounds(earlier)
    if bounds is not None:
        corners.append(bounds)
    at = np.concatenate(corners) if corners else np.array([[size[0] / 2, size[1] / 2]])
    low, high = at.min(0), at.max(0)
    span = float((high - low).max())
    least = _octave(span / (CROP - _MARGIN))
    if prompts.box is not None:
        side = float((prompts.box[2:] - prompts.box[:2]).max())
        octaves = [max(_octave(side / _LONGEST_BOX), least)]
    elif earlier is not None and bounds is not None:
        side = 2 * math.sqrt(float(earlier.sum()))
        octaves = [max(round(math.log2(max(side / _CLICK_SIDE, 1))), least)]
    else:
        octaves = list(range(_octave(span / (CROP_OF_SEVERAL - _MARGIN)), COUNT))
    side = CROP if len(octaves) == 1 else CROP_OF_SEVERAL
    middle = (low + high) / 2
    return [_around(middle, min(octave, COUNT - 1), side, size) for octave in octaves]


def _octave(ratio: float) -> int:
    """Return the first octave that shrinks by at least a ratio."""
    return min(max(math.ceil(math.log2(max(ratio, 1e-6))), 0), COUNT - 1)


def _around(
    middle: NDArray[np.float64], octave: int, crop_side: int, size: tuple[int, int]
) -> Crop:
    sides = [padded(max(1, round(side / 2**octave))) for side in size]
    width, height = (min(crop_side, side) for side in sides)
    left, top = (
        min(max(round((at / 2**octave - crop / 2) / MULTIPLE) * MULTIPLE, 0), side - crop)
        for at, crop, side in zip(middle, (width, height), sides, strict=True)
    )
    return Crop(octave, int(left), int(top), width, height)


def _bounds(mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    return 2.0 * np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])
