"""The region model of decoder `sam-lung`: a window in, how likely each class is everywhere out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import with_fallback
from napari_histosam.models.sam_lung.frame import Pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.sam_lung.network import SamLung

_log = logging.getLogger(__name__)


class SamLungModel:
    """SAM-Lung as a `RegionModel`.

    Parameters
    ----------
    card : ModelCard
        With as many classes as the network has outputs besides the first; its recipe may name
        other constants for the pixels, see `Pixels`.
    net : SamLung
        With its weights, in eval mode.
    weights_hash : str
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        net: SamLung,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self.pixels = Pixels.of(card)
        self._say = say or _log.warning
        self._net = net.requires_grad_(False)
        self._place = "cpu"

    @property
    def net(self) -> SamLung:
        """The network, on whatever device it was used last."""
        return self._net

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how likely each pixel is of each class.

        Parameters
        ----------
        image : (height, width, 3) uint8 RGB array
            At most ``card.window_px`` a side. Smaller ones are padded with white.

        Returns
        -------
        (k, height, width) float32 array

        Raises
        ------
        InputError
            If it is no RGB picture or too large.
        """
        x = self.pixels.tensor(image)[None]
        height, width = image.shape[:2]
        size = (self.pixels.side, self.pixels.side)

        def run(device: str, _: int) -> NDArray[np.float32]:
            with torch.inference_mode():
                likely = self._on(device)(x.to(device), size).softmax(1)
                return np.asarray(likely[0, 1:, :height, :width].float().cpu(), np.float32)

        found, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return np.ascontiguousarray(found)

    def _on(self, device: str) -> SamLung:
        if device != self._place:
            self._net = self._net.to(device)
            self._place = device
        return self._net
