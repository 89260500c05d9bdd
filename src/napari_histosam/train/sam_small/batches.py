"""Training batches: parts of SAM's square with objects of any size and their first prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from napari_histosam.models.sam.build import GRID, PATCH, PIXEL_MEAN, PIXEL_STD
from napari_histosam.train.small.crops import CropMaker
from napari_histosam.train.small.prompting import Asked, first_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_histosam.train.small.crops import Crop
    from napari_histosam.train.small.pool import Picture

# Px of SAM's square that a part has along a side, and how many parts a batch of them has. The
# decoder's work goes with the area, and most objects are small.
_SIDES = ((256, 8), (256, 8), (256, 8), (512, 2))
_OBJECTS = 2
_LARGEST = 512


class Batch(NamedTuple):
    """Parts of SAM's square, and the objects that are asked for in them.

    ``pixels`` (n, 3, h, w) as SAM's encoder takes them; ``asked`` in px of half their size, with
    ``areas`` (m,), ``of`` (m,), the part of each object, and ``corner``, the row and column of
    SAM's grid where all parts lie.
    """

    pixels: Tensor
    asked: list[Asked]
    areas: Tensor
    of: Tensor
    corner: tuple[int, int]


class Batches(Dataset[Batch]):
    """Batches by their number: number k is the same for the same seed, whenever it is made.

    Parameters
    ----------
    pictures : sequence of Picture
    seed : int
    length : int
        How many batches there are.
    plain : bool
        Colour and scale as a user sees them.
    """

    def __init__(
        self, pictures: Sequence[Picture], seed: int, length: int, *, plain: bool = False
    ) -> None:
        self._shown, self._varied = CropMaker(pictures, plain=True), CropMaker(pictures)
        self._seed, self._length, self._plain = seed, length, plain

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self._seed, number))
        side, count = _SIDES[number % len(_SIDES)]
        crops = [self._maker(rng, side).make(rng, side, _OBJECTS) for _ in range(count)]
        left = GRID - side // PATCH
        corner = (int(rng.integers(left + 1)), int(rng.integers(left + 1)))
        return assembled(crops, corner, rng)

    def _maker(self, rng: np.random.Generator, side: int) -> CropMaker:
        if self._plain or side == _LARGEST or rng.random() < 0.7:
            return self._shown
        return self._varied


def assembled(crops: Sequence[Crop], corner: tuple[int, int], rng: np.random.Generator) -> Batch:
    """Return crops, at a corner of the grid, with first prompts for their objects."""
    asked, areas = [], []
    for crop in crops:
        half = crop.image.shape[0] // 2
        glass = _halved(crop.glass, half)
        for mask, area in zip(crop.masks, crop.areas, strict=True):
            small = _halved(mask, half)
            asked.append(first_prompts(small, glass, rng))
            areas.append(max(float(area) / 4, float(asked[-1].truth.sum())))
    images = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    of = torch.arange(len(crops)).repeat_interleave(len(crops[0].masks))
    return Batch((images - mean) / std, asked, torch.tensor(areas), of, corner)


def feed(batches: Batches, start: int, workers: int) -> DataLoader[Batch]:
    """Return batches from number ``start`` on, made ahead in other processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, len(batches)),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )


def _halved(mask: np.ndarray, side: int) -> np.ndarray:
    small = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small) >= 0.5
