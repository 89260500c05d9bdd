"""Turns windows into what SAM-Lung's encoder takes: scaled by its constants, padded in white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.prompts import check_image
from napari_histosam.models.sam.build import BUNDLED, PATCH

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

# What the authors subtract and divide by, of 0 to 1. Unusual for stained tissue, but learned with.
MEAN, STD = (0.709, 0.381, 0.224), (0.127, 0.079, 0.043)
# An encoder that keeps SAM's positions and windows: the card's ``recipe["encoder"]``.
AS_SAM = "sam"
# Of the side of a window, behind the bundled encoder.
_COARSE = 128
_WHITE = 255


@dataclass(frozen=True)
class Pixels:
    """How a model wants its pixels.

    Parameters
    ----------
    side : int
        Of the square that it sees, in px.
    mean, std : tuple of float
        Per channel, of values of 0 to 1.
    """

    side: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def of(cls, card: ModelCard) -> Pixels:
        """Read them from a card: ``window_px``, and ``mean`` and ``std`` of its recipe.

        Raises
        ------
        InputError
            If the card's numbers make no sense.
        """
        mean, std = (
            tuple(map(float, card.recipe.get(name, known)))
            for name, known in (("mean", MEAN), ("std", STD))
        )
        side, step = card.window_px, _COARSE if card.variant == BUNDLED else PATCH
        if side <= 0 or side % step or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(
                f"The card of {card.name} must name a window that is a multiple of {step} px, and "
                "three numbers each for mean and std: repair or remove it."
            )
        return cls(side, mean, std)

    def tensor(self, image: NDArray[np.uint8]) -> Tensor:
        """Return (3, side, side) float32 of a window (h, w, 3); what it lacks becomes white.

        Raises
        ------
        InputError
            If it is no RGB picture or larger than the square.
        """
        check_image(image)
        height, width = image.shape[:2]
        if max(height, width) > self.side:
            raise InputError(
                f"A window of {width} x {height} px is too large: SAM-Lung sees {self.side} px at "
                "a time, so cut it into tiles."
            )
        square = np.full((self.side, self.side, 3), _WHITE, np.uint8)
        square[:height, :width] = image
        x = torch.from_numpy(square.transpose(2, 0, 1).copy()).float() / _WHITE
        return (x - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)
