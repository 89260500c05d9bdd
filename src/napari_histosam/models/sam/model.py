"""The prompt model of decoder `sam`: one window encoded once, many objects decoded from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import with_fallback
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import batches, is_ambiguous

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.sam.prompts import PromptBatch

_log = logging.getLogger(__name__)
# Objects per decoder step. A GPU is fed in one go; on a CPU larger batches are slower.
_BATCH_GPU, _BATCH_CPU = 32, 4


class SamModel:
    """Segment Anything as a `PromptModel`.

    Parameters
    ----------
    card : ModelCard
    sam : Sam
        The network with its weights, in eval mode.
    weights_hash : str
        SHA-256 of the weights file.
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        sam: Sam,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self._say = say or _log.warning
        self._batch = _BATCH_CPU if device == "cpu" else _BATCH_GPU
        self._sam = sam.requires_grad_(False)
        self._place = "cpu"

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode one window of any size.

        Parameters
        ----------
        images : sequence of one (height, width, 3) uint8 RGB array

        Returns
        -------
        Embedding
            With the array ``"embedding"``, (256, 64, 64) float32.
        """
        (image,) = images
        check_image(image)
        frame = Frame((image.shape[1], image.shape[0]))
        pixels = frame.image(image, self.card.pixels)

        def run(device: str, _: int) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self._on(device).image_encoder(pixels.to(device))[0].float().cpu().numpy()

        array, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return Embedding({"embedding": array}, frame.size)

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects.

        A single click without box or mask gets SAM's three masks (part, subpart, whole), the
        best by predicted IoU first; all other prompts leave little doubt and get the one mask of
        the token that SAM trained for them.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
        multimask : bool
            False gives one mask for single clicks, too.

        Returns
        -------
        list of Candidates
            Logits are (k, 256, 256); scores are predicted IoUs cut to 0 to 1.
        """
        checked = check_prompts(objects, embedding.size)
        frame = Frame(embedding.size)
        source = torch.from_numpy(np.asarray(embedding.arrays["embedding"], np.float32))[None]

        def run(device: str, batch: int) -> dict[int, Candidates]:
            answers: dict[int, Candidates] = {}
            self._on(device)
            features = source.to(device)
            for group in batches(checked, frame, batch):
                low, scores = self.raw(features, group.to(device))
                for row, number in enumerate(group.numbers):
                    several = multimask and is_ambiguous(checked[number])
                    answers[number] = _candidates(low[row], scores[row], frame, several)
            return answers

        answers, device, self._batch = with_fallback(run, self.device, self._batch, self._say)
        if device != self.device:
            self.device, self._batch = device, _BATCH_CPU
        return [answers[number] for number in range(len(checked))]

    def raw(self, features: Tensor, batch: PromptBatch) -> tuple[Tensor, Tensor]:
        """Return all four masks as logits (b, 4, 256, 256) and their predicted IoUs (b, 4).

        Token 0 is the one for clear prompts, 1 to 3 are those for ambiguous ones.
        """
        with torch.inference_mode():
            sam = self._sam
            sparse, dense = sam.prompt_encoder(batch.points, batch.boxes, batch.masks)
            low, scores = sam.mask_decoder.predict_masks(
                image_embeddings=features,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return low, scores

    def _on(self, device: str) -> Sam:
        if device != self._place:
            self._sam = self._sam.to(device)
            self._place = device
        return self._sam


def _candidates(low: Tensor, scores: Tensor, frame: Frame, several: bool) -> Candidates:
    with torch.inference_mode():
        if several:
            order = 1 + torch.argsort(scores[1:], descending=True, stable=True)
        else:
            order = torch.zeros(1, dtype=torch.long, device=low.device)
        low, scores = low[order], scores[order]
        masks = frame.window_logits(low) > 0
        return Candidates(
            masks.cpu().numpy(),
            scores.double().cpu().numpy().clip(0, 1),
            low.float().cpu().numpy(),
        )
