"""EP-SAM's heat map over a slide, before there is any decoder: how warm, times how likely."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.ep_sam.model import EpSamModel

CLASS = "heat"


class HeatModel:
    """The classifier of an EP-SAM as a `RegionModel`.

    Parameters
    ----------
    model : EpSamModel
    """

    def __init__(self, model: EpSamModel) -> None:
        self._model = model
        self.card: ModelCard = replace(model.card, classes=(CLASS,))
        # What lies on disk of one is not to be taken for that of the other.
        self.weights_hash = f"{model.weights_hash}-{CLASS}"

    @property
    def device(self) -> str:
        """Where the networks are."""
        return self._model.device

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how warm each pixel is, times how likely the patch holds tumour.

        The heat map of a patch is stretched to 0 to 1, so that alone it tells nothing of whether
        there is tumour at all.

        Parameters
        ----------
        image : (height, width, 3) uint8 RGB array
            See `EpSamModel.probabilities`.

        Returns
        -------
        (1, height, width) float32 array
            0 to 1.

        Raises
        ------
        InputError
            If it is no RGB picture or too large.
        """
        likely, heat = self._model.heat(image)
        height, width = image.shape[:2]
        found = heat.weights()[:height, :width] * np.float32(likely)
        return np.ascontiguousarray(found[None], np.float32)
