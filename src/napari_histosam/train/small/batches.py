"""Feeds training steps: batch number k is the same for the same seed, whenever it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from napari_histosam.train.small.crops import SIDE, SMALL_SIDE, CropMaker
from napari_histosam.train.small.prompting import Asked, first_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_histosam.train.small.crops import Crop
    from napari_histosam.train.small.pool import Picture

# Every so many batches one has small crops.
_SMALL_EVERY = 4


class Batch(NamedTuple):
    """Crops, and the objects that are asked for in them.

    ``pixels`` (n, 3, h, w) float from 0 to 1, ``asked`` with ``areas`` (m,) and ``of`` (m,), the
    number of each object's crop.
    """

    pixels: Tensor
    asked: list[Asked]
    areas: Tensor
    of: Tensor


class Batches(Dataset[Batch]):
    """Batches by their number.

    Parameters
    ----------
    pictures : sequence of Picture
    seed, size : int
        Seed of everything random; crops per batch.
    length : int
        How many batches there are.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        seed: int,
        size: int,
        length: int,
    ) -> None:
        self._maker = CropMaker(pictures)
        self._seed, self._size, self._length = seed, size, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self._seed, number))
        side = SMALL_SIDE if number % _SMALL_EVERY == _SMALL_EVERY - 1 else SIDE
        crops = [self._maker.make(rng, side) for _ in range(self._size)]
        return assembled(crops, rng)


def assembled(crops: Sequence[Crop], rng: np.random.Generator) -> Batch:
    """Return crops with first prompts for their objects."""
    asked = [first_prompts(mask, crop.glass, rng) for crop in crops for mask in crop.masks]
    images = np.stack([crop.image for crop in crops])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    areas = torch.from_numpy(np.concatenate([crop.areas for crop in crops])).float()
    of = torch.arange(len(crops)).repeat_interleave(len(crops[0].masks))
    return Batch(pixels.contiguous(memory_format=torch.channels_last), asked, areas, of)


def feed(batches: Batches, start: int, workers: int) -> DataLoader[Batch]:
    """Return batches from number ``start`` on, made ahead in other processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, len(batches)),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
