"""The prompt model of decoder `histosam-small`: the bundled network, on any machine at once."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from napari_histosam.models.devices import computes_bfloat16, with_fallback
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.models.small import octaves
from napari_histosam.models.small.answers import Answer, answer, distinct
from napari_histosam.models.small.encoder import STRIDES, Features
from napari_histosam.models.small.layers import in_channels_last
from napari_histosam.models.small.prompt_maps import PromptBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.models.small.octaves import Crop

_log = logging.getLogger(__name__)
_CANDIDATES = 3
# From one click, the network's third mask, which has come to mean the whole of a thing, is worth
# more than its score says (found on dev_train through the session's windows).
_WORTH = (0.0, 0.0, 0.05)


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
        pixels = [
            torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255
            for part in octaves.octave_images(image)
        ]

        def run(device: str, _: int) -> dict[str, NDArray[np.float32]]:
            net = self._on(device)
            found = {}
            with torch.inference_mode():
                for number, part in enumerate(pixels):
                    there = part.to(device, net.dtype, memory_format=torch.channels_last)
                    features = net.encode(there)
                    for stride, level in zip(STRIDES, features, strict=True):
                        array = level[0].float().cpu().numpy()
                        found[_name(number, stride)] = np.ascontiguousarray(array)
            return found

        arrays, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return Embedding(arrays, (image.shape[1], image.shape[0]))

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
            most = _CANDIDATES if multimask and _ambiguous(prompts) else 1
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
        earlier = _earlier(prompts, embedding.size)
        crops = octaves.choose(prompts, None if earlier is None else earlier > 0.5, embedding.size)
        # Crops of one size go through the network together.
        grouped: dict[tuple[int, int], list[Crop]] = {}
        for crop in crops:
            grouped.setdefault((crop.width, crop.height), []).append(crop)
        out: list[Answer] = []
        for group in grouped.values():
            features = _cut(embedding, group)
            batch = _batch(prompts, earlier, group)

            def run(
                device: str, _: int, features: Features = features, batch: PromptBatch = batch
            ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
                with torch.inference_mode():
                    net = self._on(device)
                    there = Features(*(level.to(device, net.dtype) for level in features))
                    logits, scores = net.decode(there, batch.to(device))
                    return logits.float().cpu().numpy(), scores.double().sigmoid().cpu().numpy()

            (logits, scores), self.device, _ = with_fallback(run, self.device, 1, self._say)
            masks = range(logits.shape[1]) if _ambiguous(prompts) else (0,)
            out += [
                answer(
                    crop,
                    logits[row, mask],
                    min(float(scores[row, mask]) + _WORTH[mask], 1.0),
                    prompts,
                )
                for row, crop in enumerate(group)
                for mask in masks
            ]
        return out

    def _on(self, device: str) -> SmallNet:
        """Return the network as it runs on a device."""
        if device not in self._placed:
            net = in_channels_last(copy.deepcopy(self._net)).to(device)
            self._placed = {device: net.to_half() if computes_bfloat16(device) else net}
        return self._placed[device]


def _name(octave: int, stride: int) -> str:
    return f"octave{octave}_stride{stride}"


def _ambiguous(prompts: ObjectPrompts) -> bool:
    """Whether one click is all that is known."""
    alone = prompts.box is None and prompts.mask is None and prompts.logits is None
    return alone and prompts.points is not None and len(prompts.points) == 1


def _earlier(prompts: ObjectPrompts, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return the probability of an earlier answer or mask at half the window's resolution."""
    shape = (-(-size[1] // 2), -(-size[0] // 2))
    if prompts.logits is not None and prompts.logits.shape == shape:
        return (1 / (1 + np.exp(-np.clip(prompts.logits, -30, 30)))).astype(np.float32)
    if prompts.mask is not None:
        return _shrunk(prompts.mask.astype(np.float32), (shape[1], shape[0]))
    return None


def _cut(embedding: Embedding, crops: Sequence[Crop]) -> Features:
    levels = []
    for stride in STRIDES:
        parts = []
        for crop in crops:
            array = embedding.arrays[_name(crop.octave, stride)]
            top, left = crop.top // stride, crop.left // stride
            bottom, right = top + crop.height // stride, left + crop.width // stride
            parts.append(array[:, top:bottom, left:right])
        stacked = torch.from_numpy(np.stack(parts).astype(np.float32))
        levels.append(stacked.contiguous(memory_format=torch.channels_last))
    return Features(*levels)


def _batch(
    prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, crops: Sequence[Crop]
) -> PromptBatch:
    n, first = len(crops), crops[0]
    none = np.zeros((0, 2))
    points = none if prompts.points is None else prompts.points
    labels = np.zeros(0, np.int64) if prompts.labels is None else prompts.labels
    at = np.stack([crop.to_net(points) for crop in crops])
    boxes = np.full((n, 4), np.nan)
    if prompts.box is not None:
        boxes = np.stack([crop.to_net(prompts.box.reshape(2, 2)).ravel() for crop in crops])
    previous = np.full((n, 1, first.height // 2, first.width // 2), np.nan, np.float32)
    if earlier is not None:
        for row, crop in enumerate(crops):
            previous[row, 0] = _seen(earlier, crop)
    if not len(points):
        at, labels = np.zeros((n, 1, 2)), np.full(1, -1)
    return PromptBatch(
        torch.from_numpy(at.astype(np.float32)),
        torch.from_numpy(np.tile(labels, (n, 1))),
        torch.from_numpy(boxes.astype(np.float32)),
        torch.from_numpy(previous),
    )


def _shrunk(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _seen(earlier: NDArray[np.float32], crop: Crop) -> NDArray[np.float32]:
    """Return an earlier answer as it lies in a crop, at half the crop's resolution."""
    h, w = earlier.shape
    factor = crop.factor
    small = earlier
    if factor > 1:
        small = _shrunk(earlier, (max(1, round(w / factor)), max(1, round(h / factor))))
    out = np.zeros((crop.height // 2, crop.width // 2), np.float32)
    part = small[crop.top // 2 : (crop.top + crop.height) // 2]
    part = part[:, crop.left // 2 : (crop.left + crop.width) // 2]
    out[: part.shape[0], : part.shape[1]] = part
    return out
