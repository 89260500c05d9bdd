"""Reads patches at the side that the networks see, and varies them for the classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torchvision.transforms import ColorJitter, RandomGrayscale

from napari_histosam.models.ep_sam.frame import classifier_input, square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.train.patchwise.labels import PatchEntry

_BYTES = 1 << 29
_JITTER, _GREY = 0.2, 0.1


class Patches:
    """Reads patches; keeps the last ones, up to a number of bytes.

    Parameters
    ----------
    side : int
        A patch's longer side becomes so many px; what it lacks to a square becomes white.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._kept: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._most = max(1, _BYTES // (3 * side * side))

    def of(self, entry: PatchEntry) -> NDArray[np.uint8]:
        """Return a patch (side, side, 3) RGB.

        Raises
        ------
        InputError
            If its image is missing or damaged.
        """
        key = str(entry.image)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._read(entry)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found

    def _read(self, entry: PatchEntry) -> NDArray[np.uint8]:
        image = entry.read()
        factor = self.side / max(image.shape[:2])
        if factor != 1:
            size = tuple(max(1, round(n * factor)) for n in image.shape[1::-1])
            how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            image = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
        return square(image, self.side)

    def scale(self, entry: PatchEntry) -> float | None:
        """Return the µm per px of a patch as it is seen, or None where it is not known."""
        if entry.mpp is None:
            return None
        return entry.mpp * max(entry.read().shape[:2]) / self.side


def plain(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return patches as the classifier takes them, (n, 3, h, w), as they are."""
    return torch.stack([classifier_input(image) for image in images])


def varied(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return patches as `plain`, each mirrored, turned, and coloured at random.

    Mirrored in either direction by half, turned by any angle, brightness, contrast, saturation and
    hue by up to 0.2, a tenth of them grey. Unlike the authors', the corners that a turn uncovers
    are mirrored, not black. Draws from torch's global generator.
    """
    jitter, grey = ColorJitter(_JITTER, _JITTER, _JITTER, _JITTER), RandomGrayscale(_GREY)
    return torch.stack([grey(jitter(classifier_input(_laid(image)))) for image in images])


def _laid(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    across, down, angle = torch.rand(3).tolist()
    if across < 0.5:
        image = image[:, ::-1]
    if down < 0.5:
        image = image[::-1]
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 360 * angle, 1)
    laid = cv2.warpAffine(
        np.ascontiguousarray(image),
        turn,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(laid, np.uint8)
