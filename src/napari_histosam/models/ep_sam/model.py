"""The region model of decoder `ep-sam`: what holds no tumour is left alone, the rest outlined."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from napari_histosam.models.devices import with_fallback
from napari_histosam.models.ep_sam.frame import Recipe, square
from napari_histosam.models.ep_sam.network import over_patch
from napari_histosam.models.ep_sam.points import agreement, drawn, generator_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.ep_sam.cam import Heat
    from napari_histosam.models.ep_sam.network import EpSam

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Proposal:
    """What EP-SAM makes of one patch, step by step.

    Parameters
    ----------
    tumour : float
        How likely the patch holds tumour, 0 to 1.
    heat : Heat
    warm : (h, w) bool array
        The heat map's mask.
    points : (k, 2) int array
        x, y of the px that SAM was asked for; none where nothing is warm.
    likely : (h, w) float32 array
        SAM's answer as probability; zero where there are no points.
    """

    tumour: float
    heat: Heat
    warm: NDArray[np.bool_]
    points: NDArray[np.int64]
    likely: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """SAM's answer."""
        return self.likely > 0.5

    @property
    def agreement(self) -> float:
        """The share of SAM's mask that is warm: see `napari_histosam.models.ep_sam.points`."""
        return agreement(self.warm, self.mask)


class EpSamModel:
    """EP-SAM as a `RegionModel`.

    Parameters
    ----------
    card : ModelCard
        Its ``window_px`` is the side of a patch, its recipe a `Recipe`.
    net : EpSam
        With its weights, in eval mode.
    weights_hash : str
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        net: EpSam,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self.recipe = Recipe.of(card)
        self._say = say or _log.warning
        self._net = net.requires_grad_(False)
        self._place = "cpu"

    @property
    def net(self) -> EpSam:
        """The networks, on whatever device they were used last."""
        return self._net

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how likely each pixel is tumour.

        Zero all over where the classifier finds no tumour (`Recipe.gate`), or nothing is warm.

        Parameters
        ----------
        image : (height, width, 3) uint8 RGB array
            At most ``card.window_px`` a side. Smaller ones are padded with white.

        Returns
        -------
        (1, height, width) float32 array

        Raises
        ------
        InputError
            If it is no RGB picture or too large.
        """
        patch = self._patch(image)
        height, width = image.shape[:2]

        def run(net: EpSam) -> NDArray[np.float32]:
            _, heat = net.judged(patch, _logit(self.recipe.gate))
            if heat is None:
                return np.zeros(patch.shape[:2], np.float32)
            return answered(net, self.recipe, patch, heat)[2]

        return np.ascontiguousarray(self._run(run)[None, :height, :width])

    def tumour(self, image: NDArray[np.uint8]) -> float:
        """Return how likely a window holds tumour, 0 to 1; arguments as `probabilities`."""
        patch = self._patch(image)
        return self._run(lambda net: _probability(net.judged(patch, math.inf)[0]))

    def heat(self, image: NDArray[np.uint8]) -> tuple[float, Heat]:
        """Return how likely a window holds tumour, and its heat map, without asking SAM.

        The heat map is that of the whole patch: a smaller window lies at its upper left.
        """
        patch = self._patch(image)

        def run(net: EpSam) -> tuple[float, Heat]:
            logit, heat = net.judged(patch)
            assert heat is not None
            return _probability(logit), heat

        return self._run(run)

    def propose(self, image: NDArray[np.uint8]) -> Proposal:
        """Return all steps for a whole patch, whatever the classifier says of it.

        Parameters
        ----------
        image : (side, side, 3) uint8 RGB array
            Smaller ones are padded with white; the result is over the whole patch.
        """
        patch = self._patch(image)

        def run(net: EpSam) -> Proposal:
            logit, heat = net.judged(patch)
            assert heat is not None
            asked = answered(net, self.recipe, patch, heat)
            return Proposal(_probability(logit), heat, *asked)

        return self._run(run)

    def _patch(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.recipe.ordered(square(image, self.card.window_px))

    def _run(self, work: Callable[[EpSam], T]) -> T:
        def run(device: str, _: int) -> T:
            if device != self._place:
                self._net = self._net.to(device)
                self._place = device
            with torch.inference_mode():
                return work(self._net)

        found, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return found


def answered(
    net: EpSam,
    recipe: Recipe,
    patch: NDArray[np.uint8],
    heat: Heat,
    embedding: Tensor | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]:
    """Return a heat map's mask, the points drawn from it, and SAM's answer to them.

    Parameters
    ----------
    net : EpSam
    recipe : Recipe
    patch : (h, w, 3) uint8 array
        In the networks' channel order.
    heat : Heat
        Of the patch.
    embedding : (1, 256, 64, 64) tensor, optional
        Of the patch, where it is known; else it is made.

    Returns
    -------
    warm : (h, w) bool array
    points : (k, 2) int array
        x, y; none where nothing is warm.
    likely : (h, w) float32 array
        Zero where there are no points.
    """
    size = patch.shape[0], patch.shape[1]
    warm = heat.mask(recipe.profile)
    points = drawn(warm, generator_of(patch), heat.weights())
    likely = np.zeros(size, np.float32)
    if len(points):
        seen = net.embedded(patch) if embedding is None else embedding
        low, _ = net.masked(seen, recipe.at(points, size))
        likely = over_patch(low[None], size)[0].sigmoid().float().cpu().numpy()
    return warm, points, likely


def _probability(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability / (1 - probability))
