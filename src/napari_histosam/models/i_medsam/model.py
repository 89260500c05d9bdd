"""The prompt model of decoder `i-medsam`: a window encoded once, boxes drawn from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import with_fallback
from napari_histosam.models.i_medsam.frame import in_square, on_grid, pixels, region_of
from napari_histosam.models.i_medsam.points import Region
from napari_histosam.models.i_medsam.render import CHUNK, draw
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.i_medsam.network import IMedSam
    from napari_histosam.models.i_medsam.render import Refine
    from napari_histosam.models.protocols import ObjectPrompts

_log = logging.getLogger(__name__)
_BATCH = 16
_CHUNK_GPU = 1 << 17
# A card's variant for choosing the points of the fine network by passes with dropout, as upstream
# trained, in place of what such passes give on average.
SAMPLED = "vit_b-sampled-uncertainty"


@dataclass(frozen=True)
class Rendering:
    """An object on part of a grid over its window.

    Parameters
    ----------
    logits : (h, w) float32 array
        Of the region.
    region : Region
        Grid px.
    grid : tuple of int
        Height and width of the whole grid.
    """

    logits: NDArray[np.float32]
    region: Region
    grid: tuple[int, int]

    @property
    def confidence(self) -> float:
        """How far the probabilities in the region are from a half: 0 none, 1 all certain.

        It was not learned and is no estimate of the IoU: a model can be certain of a wrong mask.
        """
        return float(np.abs(np.tanh(self.logits / 2)).mean()) if (self.logits > 0).any() else 0.0


class IMedSamModel:
    """I-MedSAM as a `PromptModel` that can also draw finer than its window.

    Parameters
    ----------
    card : ModelCard
        Its variant ``"vit_b-sampled-uncertainty"`` has `render` refine by ``"mc"``.
    net : IMedSam
        With its weights, in eval mode.
    weights_hash : str
        SHA-256 that stands for both weight files.
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        net: IMedSam,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self._say = say or _log.warning
        self._net = net.requires_grad_(False)
        self._place = "cpu"

    @property
    def net(self) -> IMedSam:
        """The network, on whatever device it was used last."""
        return self._net

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode one window.

        Parameters
        ----------
        images : sequence of one (height, width, 3) uint8 RGB array
            Square, as other windows are distorted.

        Returns
        -------
        Embedding
            With the array ``"embedding"``, (256, side / 16, side / 16) float32.
        """
        (image,) = images
        check_image(image)
        x = pixels(image, self._net.side)

        def run(device: str, _: int) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self._on(device).image_encoder(x.to(device))[0].float().cpu().numpy()

        array, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return Embedding({"embedding": array}, (image.shape[1], image.shape[0]))

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects.

        Boxes are what I-MedSAM learned from; a mask counts as the box around it; clicks work but
        it never learned them.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
        multimask : bool
            Without effect: I-MedSAM has one answer.

        Returns
        -------
        list of Candidates
            One mask each; nothing is set far outside a box. No logits are handed out. Scores are
            `Rendering.confidence`, no predicted IoUs.
        """
        del multimask
        return self.decode_finer(embedding, objects, 1)

    def decode_finer(
        self, embedding: Embedding, objects: Sequence[ObjectPrompts], finer: int
    ) -> list[Candidates]:
        """Answer as `decode`, with masks of ``finer`` px per px of the window."""
        out = []
        for found in self.render(embedding, objects, finer=finer):
            mask = np.zeros((1, *found.grid), np.bool_)
            part = found.region
            mask[0, part.top : part.bottom, part.left : part.right] = found.logits > 0
            none = np.zeros((1, 0, 0), np.float32)
            out.append(Candidates(mask, np.array([found.confidence]), none, finer))
        return out

    def render(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        finer: int = 1,
        grid: tuple[int, int] | None = None,
        refine: Refine | None = None,
        whole: bool = False,
    ) -> list[Rendering]:
        """Draw objects on a grid of any resolution, each in the part around its box.

        Parameters
        ----------
        embedding : Embedding
        objects : sequence of ObjectPrompts
            Window px.
        finer : int
            Grid px per window px.
        grid : tuple of int, optional
            Height and width of a grid over the window instead.
        refine : {"energy", "none", "all", "mc"}, optional
            See `napari_histosam.models.i_medsam.render.draw`; else by the card.
        whole : bool
            Draw all of the grid for every object.

        Returns
        -------
        list of Rendering, one per object
        """
        size = embedding.size
        how: Refine = refine or ("mc" if self.card.variant == SAMPLED else "energy")
        checked = check_prompts(objects, size)
        side = self._net.side
        asked = [in_square(prompts, size, side, self.card.name) for prompts in checked]
        shape = grid or (size[1] * finer, size[0] * finer)
        everything = Region(0, 0, shape[1], shape[0])
        parts = [
            everything if whole else on_grid(region_of(one, size), size, shape) for one in checked
        ]
        frame = Frame((side, side), scaled=False)
        source = torch.from_numpy(np.asarray(embedding.arrays["embedding"], np.float32))[None]

        def run(device: str, batch: int) -> dict[int, Rendering]:
            net, out = self._on(device), {}
            chunk = CHUNK if device == "cpu" else _CHUNK_GPU
            features = source.to(device)
            for group in batches(asked, frame, batch):
                with torch.inference_mode():
                    maps = net.upscaled(features, group.to(device))
                    for row, number in enumerate(group.numbers):
                        sampler = net.sampler(maps[row], shape, parts[number])
                        field = net.mask_decoder.seg_field
                        drawn = draw(field, sampler, refine=how, chunk=chunk).logits
                        logits = drawn.float().cpu().numpy()
                        out[number] = Rendering(logits, parts[number], shape)
            return out

        found, self.device, _ = with_fallback(run, self.device, _BATCH, self._say)
        return [found[number] for number in range(len(checked))]

    def _on(self, device: str) -> IMedSam:
        if device != self._place:
            self._net = self._net.to(device)
            self._place = device
        return self._net
