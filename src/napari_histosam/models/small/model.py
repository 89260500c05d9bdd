"""The prompt model of decoder `histosam-small`: the bundled network, on any machine at once."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.models.devices import computes_bfloat16, with_fallback
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates
from napari_histosam.models.small.answers import Answer, answer, distinct
from napari_histosam.models.small.candidates import Found, ambiguous, encoded, find, judge
from napari_histosam.models.small.layers import in_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import Embedding, ObjectPrompts
    from napari_histosam.models.small.network import SmallNet

_log = logging.getLogger(__name__)
_CANDIDATES = 3


class SmallModel:
    """The bundled network as a `PromptModel`.

    Parameters
    ----------
    card : ModelCard
    net : SmallNet
        With its weights, in eval mode.
    weights_hash : str
        SHA-256 of the weights file.
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        net: SmallNet,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self._say = say or _log.warning
        self._net = net.requires_grad_(False)
        self._placed: dict[str, SmallNet] = {}

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode one window of any size, at all octaves.

        Parameters
        ----------
        images : sequence of one (height, width, 3) uint8 RGB array

        Returns
        -------
        Embedding
            Arrays ``"octave{i}_stride{j}"``, (channels, h, w) float32: the features of the window
            shrunk by 2 to the power of i, at stride j.
        """
        (image,) = images
        check_image(image)

        def run(device: str, _: int) -> Embedding:
            return encoded(self._on(device), device, image)

        embedding, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return embedding

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects.

        Where clicks alone leave the object's size open, every octave answers and the masks are
        ranked by their predicted IoU.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
        multimask : bool
            Offer up to three distinct masks for a single click.

        Returns
        -------
        list of Candidates
            Logits are (k, height / 2, width / 2) of the window.
        """
        out = []
        for prompts in check_prompts(objects, embedding.size):
            answers = self._answers(embedding, prompts)
            most = _CANDIDATES if multimask and ambiguous(prompts) else 1
            chosen = distinct(answers, most, prompts, embedding.size)
            out.append(
                Candidates(
                    np.stack([one.mask for one in chosen]),
                    np.array([one.score for one in chosen], np.float64),
                    np.stack([one.logits for one in chosen]),
                )
            )
        return out

    def _answers(self, embedding: Embedding, prompts: ObjectPrompts) -> list[Answer]:
        def run(device: str, _: int) -> tuple[Found, NDArray[np.float64]]:
            net = self._on(device)
            found = find(net, device, embedding, prompts)
            return found, judge(net, device, found)

        (found, scores), self.device, _ = with_fallback(run, self.device, 1, self._say)
        answers = [
            answer(crop, logits, float(score), prompts)
            for crop, logits, score in zip(found.crops, found.logits, scores, strict=True)
        ]
        # That a size is expected decides which mask is meant; that one of them is, stays as likely.
        lift = float(scores.max()) / max(*(one.score for one in answers), 1e-12)
        return [replace(one, score=one.score * lift) for one in answers]

    def _on(self, device: str) -> SmallNet:
        """Return the network as it runs on a device."""
        if device not in self._placed:
            net = in_channels_last(copy.deepcopy(self._net)).to(device)
            self._placed = {device: net.to_half() if computes_bfloat16(device) else net}
        return self._placed[device]
