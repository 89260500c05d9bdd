"""Lays a model's windows over a picture in memory, and averages where they overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.geometry.window import Window
from napari_histosam.slide import open_array
from napari_histosam.train.finetune.windows import centres, picture_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.automatic import RegionModel

_EDGE = cv2.BORDER_REPLICATE


def probabilities_of(
    image: NDArray[np.uint8], mpp: float | None, model: RegionModel
) -> NDArray[np.float32]:
    """Return how likely each px of a picture is of each class.

    The windows are those of training: half overlapping, at the model's µm per px where both know
    it. The middle of a window counts more than its border.

    Parameters
    ----------
    image : (h, w, 3) uint8 RGB array
        Small enough to be in memory at the model's scale.
    mpp : float, optional
        µm per px of the picture.
    model : RegionModel

    Returns
    -------
    (k, h, w) float32 array
    """
    height, width = image.shape[:2]
    card = model.card
    scale = picture_scale((width, height), mpp, card)
    side = card.window_px
    # What is smaller than a window lies in its middle, as in training.
    size = tuple(max(int(np.ceil(length / scale)), side) for length in (width, height))
    whole = Window(width / 2, height / 2, (scale, scale), (size[0], size[1]))
    with open_array([image], None, "picture") as slide:
        seen = slide.read(whole)
    ramp = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5).astype(np.float32)
    weight = np.minimum.outer(ramp, ramp)
    total = np.zeros((size[1], size[0]), np.float32)
    sums = np.zeros((len(card.classes), *total.shape), np.float32)
    for cy in centres(size[1], side):
        for cx in centres(size[0], side):
            top, left = round(cy - side / 2), round(cx - side / 2)
            place = np.s_[top : top + side, left : left + side]
            sums[:, *place] += weight * model.probabilities(np.ascontiguousarray(seen[place]))
            total[place] += weight
    # From px centres of the picture to those of what was read.
    step = 1 / scale
    move = [
        (0.5 - length / 2) * step + n / 2 - 0.5
        for length, n in zip((width, height), size, strict=True)
    ]
    matrix = np.array([[step, 0, move[0]], [0, step, move[1]]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(own / total, matrix, (width, height), flags=how, borderMode=_EDGE)
            for own in sums
        ]
    )
