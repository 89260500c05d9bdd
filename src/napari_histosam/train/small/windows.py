"""Windows as a user sees them, prompted, with all masks that the network gives and their IoUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.small.answers import Answer, placed
from napari_histosam.models.small.candidates import encoded, find
from napari_histosam.train.simulate import jittered, next_click, tight_box
from napari_histosam.train.small.crops import CropMaker
from napari_histosam.train.small.prompting import inner_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.protocols import Embedding
    from napari_histosam.models.small.answers import Placed
    from napari_histosam.models.small.candidates import Found
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.pool import Picture

    Mask = NDArray[np.bool_]

SIDE = 512
_OBJECTS = 6
# Shares of first prompts that are a click, a box, both; a click on glass where there is some.
_FIRST = (0.72, 0.2, 0.08)
_ON_GLASS = 0.04
_JITTER = 0.05
# Shares of first prompts that 0, 1, 2 correcting clicks follow.
_CORRECTIONS = (0.6, 0.2, 0.2)


class Example(NamedTuple):
    """The masks that answer one prompt, for the judge to learn from.

    ``described`` (k, DESCRIBED), ``kinds`` (k,), ``areas`` (k,) as the judge takes them, and
    ``ious`` (k,) with the object that was meant.
    """

    described: NDArray[np.float32]
    kinds: NDArray[np.int64]
    areas: NDArray[np.float32]
    ious: NDArray[np.float32]


class Windows(Dataset[list[Example]]):
    """Examples by the number of their window: the same for the same seed.

    Parameters
    ----------
    net : SmallNet
        For inference on the CPU.
    pictures : sequence of Picture
    seed, length : int
        Seed of everything random; how many windows there are.
    """

    def __init__(self, net: SmallNet, pictures: Sequence[Picture], seed: int, length: int) -> None:
        self._net, self._seed, self._length = net, seed, length
        self._maker = CropMaker(pictures, plain=True)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> list[Example]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self._seed, number, 2))
        crop = self._maker.make(rng, SIDE, _OBJECTS)
        embedding = encoded(self._net, "cpu", crop.image)
        return [
            example
            for mask, area in zip(crop.masks, crop.areas, strict=True)
            for example in examples_of(self._net, embedding, mask, float(area), crop.glass, rng)
        ]


def examples_of(
    net: SmallNet,
    embedding: Embedding,
    truth: Mask,
    area: float,
    glass: Mask,
    rng: np.random.Generator,
) -> Iterator[Example]:
    """Ask for one object of a window, and correct what comes a few times.

    Parameters
    ----------
    net : SmallNet
        For inference on the CPU.
    embedding : Embedding
        Of the window.
    truth : (h, w) bool array
        The object, as far as the window shows it; if there is none, glass is clicked.
    area : float
        Of the whole object in window px.
    glass : (h, w) bool array
        Where there is no tissue: clicked now and then, to be answered by nothing.
    rng : numpy Generator
    """
    prompts = _on_glass(truth, glass, rng)
    corrections = 0
    if prompts is not None:
        truth, area = np.zeros_like(truth), 0.0  # nothing is meant
    else:
        prompts = _first(truth, rng)
        corrections = int(rng.choice(len(_CORRECTIONS), p=_CORRECTIONS))
    for turn in range(corrections + 1):
        found = find(net, "cpu", embedding, prompts)
        masks = [
            placed(Answer(where, logits, 0.0), prompts, embedding.size)
            for where, logits in zip(found.crops, found.logits, strict=True)
        ]
        ious = [_iou(one.mask, truth, area) for one in masks]
        yield Example(found.described, found.kinds, found.areas, np.array(ious, np.float32))
        shown = masks[_best(net, found)]
        click = next_click(truth, shown.mask) if turn < corrections else None
        if click is None:
            return
        prompts = _followed(prompts, (click.x, click.y), click.positive, shown)


def _best(net: SmallNet, found: Found) -> int:
    """Return the mask that the network itself, without a judge, would show."""
    with torch.inference_mode():
        return int(net.decoder.score(torch.from_numpy(found.described)).argmax())


def _on_glass(truth: Mask, glass: Mask, rng: np.random.Generator) -> ObjectPrompts | None:
    """Return a click where there is no object: now and then, and always where there is none."""
    if truth.any() and (glass.mean() < 0.02 or rng.random() >= _ON_GLASS):
        return None
    at = inner_point(glass if glass.any() else ~truth, rng)
    return ObjectPrompts(points=np.array([at]), labels=np.array([1]))


def _first(truth: Mask, rng: np.random.Generator) -> ObjectPrompts:
    box = tight_box(truth)
    assert box is not None  # there is an object
    kind = int(rng.choice(len(_FIRST), p=_FIRST))
    point, label = np.array([inner_point(truth, rng)]), np.array([1])
    moved = np.clip(jittered(box, _JITTER, rng), 0, np.tile(truth.shape[::-1], 2))
    if kind == 0:
        return ObjectPrompts(points=point, labels=label)
    if kind == 1:
        return ObjectPrompts(box=moved)
    return ObjectPrompts(points=point, labels=label, box=moved)


def _followed(
    prompts: ObjectPrompts, at: tuple[float, float], positive: bool, shown: Placed
) -> ObjectPrompts:
    points, labels = np.array([at]), np.array([int(positive)])
    if prompts.points is not None and prompts.labels is not None:
        points = np.concatenate([prompts.points, points])
        labels = np.concatenate([prompts.labels, labels])
    return ObjectPrompts(points=points, labels=labels, box=prompts.box, logits=shown.logits)


def _iou(mask: Mask, truth: Mask, area: float) -> float:
    """Return the IoU with an object that may reach beyond the window."""
    common = float(np.count_nonzero(mask & truth))
    return common / max(area + float(np.count_nonzero(mask)) - common, 1.0)
