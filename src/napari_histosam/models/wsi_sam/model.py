"""The prompt model of decoder `wsi-sam`: two windows encoded once, many objects decoded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.devices import with_fallback
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.models.sam.prompts import batches
from napari_histosam.models.wsi_sam.frame import frame_of, in_both
from napari_histosam.models.wsi_sam.network import View
from napari_histosam.models.wsi_sam.score import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.sam.frame import Frame
    from napari_histosam.models.wsi_sam.network import WsiSam

_log = logging.getLogger(__name__)
_BATCH_GPU, _BATCH_CPU = 16, 2
# The arrays that are remembered of each window: after the neck, and before the third stage.
_ARRAYS = ("embedding", "early")
_WINDOWS = ("fine", "coarse")


class WsiSamModel:
    """WSI-SAM as a `PromptModel`.

    Parameters
    ----------
    card : ModelCard
        With two window scales, the second twice the first.
    net : WsiSam
        With its weights, in eval mode.
    weights_hash : str
        SHA-256 that stands for all weight files.
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out and the model steps down; else it is logged.
    """

    def __init__(
        self,
        card: ModelCard,
        net: WsiSam,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self._say = say or _log.warning
        self._batch = _BATCH_CPU if device == "cpu" else _BATCH_GPU
        self._net = net.requires_grad_(False)
        self._place = "cpu"
        # Clicks come one after the other on the same windows: a third of the work is the same.
        self._last: tuple[Embedding, str, tuple[Any, ...]] | None = None

    @property
    def net(self) -> WsiSam:
        """The network, on whatever device it was used last."""
        return self._net

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode two concentric windows.

        Parameters
        ----------
        images : sequence of two (height, width, 3) uint8 RGB arrays
            Of the same size, at most 1024 px; the second shows the same centre at half the
            magnification. Smaller ones are padded with zeros, never scaled.

        Returns
        -------
        Embedding
            Arrays ``"fine_embedding"`` and ``"coarse_embedding"``, (256, 64, 64), and
            ``"fine_early"`` and ``"coarse_early"``, (160, 64, 64), float32.
        """
        size = check_windows(images, self.card.name)
        frame = frame_of(size)

        def run(device: str, _: int) -> dict[str, NDArray[np.float32]]:
            net, arrays = self._on(device), {}
            for window, image in zip(_WINDOWS, images, strict=True):
                with torch.inference_mode():
                    view = net.view(frame.image(image).to(device))
                for name in _ARRAYS:
                    found = getattr(view, name)[0].float().cpu().numpy()
                    arrays[f"{window}_{name}"] = found
            return arrays

        arrays, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return Embedding(arrays, size)

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
            In px of the fine window; they are moved into the coarse one here.
        multimask : bool
            Without effect: WSI-SAM has one answer.

        Returns
        -------
        list of Candidates
            One mask each, over the fine window. Logits are (1, 256, 256). Scores are no predicted
            IoUs, see `napari_histosam.models.wsi_sam.score`.
        """
        del multimask
        size = embedding.size
        checked = check_prompts(objects, size)
        frame = frame_of(size)
        pairs = [in_both(prompts, size) for prompts in checked]
        fine, coarse = [one for one, _ in pairs], [other for _, other in pairs]

        def run(device: str, batch: int) -> dict[int, Candidates]:
            net = self._on(device)
            fine_view, coarse_view, features = self._prepared(net, embedding, device)
            answers: dict[int, Candidates] = {}
            # Both prompts of an object have the same layout, so the batches run in step.
            both = zip(batches(fine, frame, batch), batches(coarse, frame, batch), strict=True)
            for high, low in both:
                with torch.inference_mode():
                    fused = net(fine_view, coarse_view, high.to(device), low.to(device), features)
                    logits = fused.fine()
                    found = scores(logits, fused.coarse(), size)
                for row, number in enumerate(high.numbers):
                    answers[number] = _candidates(logits[row], found[row], frame)
            return answers

        answers, device, self._batch = with_fallback(run, self.device, self._batch, self._say)
        if device != self.device:
            self.device, self._batch = device, _BATCH_CPU
        return [answers[number] for number in range(len(checked))]

    def _prepared(self, net: WsiSam, embedding: Embedding, device: str) -> tuple[Any, ...]:
        """Return both views of an embedding and their window features, perhaps from last time."""
        if self._last is None or self._last[0] is not embedding or self._last[1] != device:
            self._last = None
            views = [self._view(embedding, window, device) for window in _WINDOWS]
            with torch.inference_mode():
                features = net.window_features(*views)
            self._last = embedding, device, (*views, features)
        return self._last[2]

    def _view(self, embedding: Embedding, window: str, device: str) -> View:
        arrays = [
            torch.from_numpy(np.asarray(embedding.arrays[f"{window}_{name}"], np.float32))
            for name in _ARRAYS
        ]
        return View(*(array[None].to(device) for array in arrays))

    def _on(self, device: str) -> WsiSam:
        if device != self._place:
            self._net = self._net.to(device)
            self._place = device
        return self._net


def check_windows(images: Sequence[NDArray[np.uint8]], name: str) -> tuple[int, int]:
    """Return width and height of two concentric windows.

    Raises
    ------
    InputError
        If they are not two of one size; ``name`` is the model's.
    """
    for image in images:
        check_image(image)
    if len(images) != len(_WINDOWS) or images[0].shape != images[1].shape:
        raise InputError(
            f"{name} looks at two windows of one size around one centre, the second at half the "
            f"magnification, not at {len(images)} of "
            f"{', '.join(str(i.shape[1::-1]) for i in images)} px: hand in both."
        )
    return images[0].shape[1], images[0].shape[0]


def _candidates(low: Tensor, score: Tensor, frame: Frame) -> Candidates:
    with torch.inference_mode():
        masks = frame.window_logits(low[None]) > 0
        return Candidates(
            masks.cpu().numpy(),
            score.double().reshape(1).cpu().numpy(),
            low[None].float().cpu().numpy(),
        )
