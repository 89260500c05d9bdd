"""Encodes a window at every octave, and finds all masks that answer one object's prompts in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from napari_histosam.models.protocols import Embedding
from napari_histosam.models.small import octaves
from napari_histosam.models.small.decoder import MASKS
from napari_histosam.models.small.encoder import STRIDES, Features
from napari_histosam.models.small.prompt_maps import PromptBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.models.small.octaves import Crop


@dataclass(frozen=True)
class Found:
    """The k masks found for one object.

    Parameters
    ----------
    crops : sequence of k Crop
        Where each lies.
    logits : sequence of k (h / 2, w / 2) float32 arrays
        Of the crop, at half its resolution.
    kinds : (k,) int array
        Which of the decoder's masks each is.
    areas : (k,) float32 array
        In window px.
    described : (k, DESCRIBED) float32 array
        What the judge goes by.
    """

    crops: Sequence[Crop]
    logits: Sequence[NDArray[np.float32]]
    kinds: NDArray[np.int64]
    areas: NDArray[np.float32]
    described: NDArray[np.float32]


def encoded(net: SmallNet, device: str, image: NDArray[np.uint8]) -> Embedding:
    """Return what the network remembers of a window, see `SmallModel.encode`."""
    found = {}
    with torch.inference_mode():
        for number, part in enumerate(octaves.octave_images(image)):
            pixels = torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255
            there = pixels.to(device, net.dtype, memory_format=torch.channels_last)
            for stride, level in zip(STRIDES, net.encode(there), strict=True):
                found[_name(number, stride)] = np.ascontiguousarray(level[0].float().cpu().numpy())
    return Embedding(found, (image.shape[1], image.shape[0]))


def find(net: SmallNet, device: str, embedding: Embedding, prompts: ObjectPrompts) -> Found:
    """Answer one object's prompts, at every octave where clicks alone leave its size open.

    Parameters
    ----------
    net : SmallNet
        For inference, on the device.
    device : str
    embedding : Embedding
    prompts : ObjectPrompts
        Window px.
    """
    earlier = _earlier(prompts, embedding.size)
    crops = octaves.choose(prompts, None if earlier is None else earlier > 0.5, embedding.size)
    # Crops of one size go through the network together.
    grouped: dict[tuple[int, int], list[Crop]] = {}
    for crop in crops:
        grouped.setdefault((crop.width, crop.height), []).append(crop)
    count = MASKS if ambiguous(prompts) else 1
    out: list[Crop] = []
    logits: list[NDArray[np.float32]] = []
    described: list[NDArray[np.float32]] = []
    for group in grouped.values():
        features = Features(*(level.to(device, net.dtype) for level in _cut(embedding, group)))
        with torch.inference_mode():
            shown, told = net.describe(features, _batch(prompts, earlier, group).to(device))
        out += [crop for crop in group for _ in range(count)]
        logits += list(shown[:, :count].flatten(0, 1).float().cpu().numpy())
        described += list(told[:, :count].flatten(0, 1).float().cpu().numpy())
    areas = [
        4 * crop.factor**2 * np.count_nonzero(one > 0)
        for crop, one in zip(out, logits, strict=True)
    ]
    kinds = np.tile(np.arange(count), len(out) // count)
    return Found(out, logits, kinds, np.array(areas, np.float32), np.stack(described))


def judge(net: SmallNet, device: str, found: Found) -> NDArray[np.float64]:
    """Return the predicted IoU (k,) of the masks found."""
    with torch.inference_mode():
        told = net.judge(
            torch.from_numpy(found.described)[None].to(device),
            torch.from_numpy(found.kinds)[None].to(device),
            torch.from_numpy(found.areas)[None].to(device),
            torch.ones(1, len(found.kinds), dtype=torch.bool, device=device),
        )
    return told[0].double().sigmoid().cpu().numpy()


def _name(octave: int, stride: int) -> str:
    return f"octave{octave}_stride{stride}"


def ambiguous(prompts: ObjectPrompts) -> bool:
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
