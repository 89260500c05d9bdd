"""What a decoder offers that needs no prompts: all objects of a window, or a map of regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard


@dataclass(frozen=True)
class Detections:
    """The n objects that a model found in one window, the most certain first.

    Parameters
    ----------
    boxes : (n, 4) float array
        Left, top, right, bottom in window px, corner based.
    scores : (n,) float array
        0 to 1.
    kinds : (n,) int array
        The number of each one's class in ``card.classes``.
    masks : sequence of n (h, w) bool arrays
        Window px, each cropped to a rectangle of its own.
    corners : (n, 2) int array
        x, y of the upper left pixel of each mask in the window.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    kinds: NDArray[np.int64]
    masks: Sequence[NDArray[np.bool_]]
    corners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """Return what was found where there is nothing."""
        return cls(
            np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), (), np.zeros((0, 2), np.int64)
        )


@runtime_checkable
class AutomaticModel(Protocol):
    """A decoder that finds objects by itself; its card's ``finds`` is ``"objects"``.

    Calls come from one worker thread at a time.
    """

    card: ModelCard
    weights_hash: str
    device: str

    def find(self, image: NDArray[np.uint8]) -> Detections:
        """Find all objects of a window.

        Parameters
        ----------
        image : (height, width, 3) uint8 RGB array
            At most ``card.window_px`` a side, at ``card.mpp``. An object that the border cuts is
            returned as far as it is seen; whoever lays out the tiles puts it aside.
        """
        ...


@runtime_checkable
class RegionModel(Protocol):
    """A decoder that tells tissue apart; its card's ``finds`` is ``"regions"``."""

    card: ModelCard
    weights_hash: str
    device: str

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how likely each pixel of a window is of each class.

        Parameters
        ----------
        image : (height, width, 3) uint8 RGB array

        Returns
        -------
        (k, height, width) float32 array
            One map for each of ``card.classes``, 0 to 1; what is left to 1 is anything else.
        """
        ...
