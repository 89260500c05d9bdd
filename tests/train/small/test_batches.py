"""Batches by number: the same whenever, wherever and in whatever order they are made."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.train.small.batches import Batches, assembled, feed
from napari_histosam.train.small.crops import OBJECTS, SIDE, SMALL_SIDE, CropMaker

if TYPE_CHECKING:
    from napari_histosam.train.small.batches import Batch
    from napari_histosam.train.small.pool import Picture


def same(a: Batch, b: Batch) -> bool:
    if a.pixels.shape != b.pixels.shape or not torch.equal(a.pixels, b.pixels):
        return False
    asked = all(
        np.array_equal(one.truth, other.truth)
        and (one.points, one.labels) == (other.points, other.labels)
        and one.corrections == other.corrections
        and np.array_equal(
            np.zeros(4) if one.box is None else one.box,
            np.zeros(4) if other.box is None else other.box,
        )
        and (one.previous is None) == (other.previous is None)
        and (one.previous is None or np.array_equal(one.previous, other.previous))
        for one, other in zip(a.asked, b.asked, strict=True)
    )
    return asked and torch.equal(a.areas, b.areas) and torch.equal(a.of, b.of)


def test_a_number_stands_for_a_batch(nuclei: list[Picture]) -> None:
    made = Batches(nuclei, seed=5, size=3, length=9)
    assert len(made) == 9
    forward = [made[number] for number in range(6)]
    others = Batches(nuclei, seed=5, size=3, length=40)
    for number in (4, 1, 5, 0, 3, 2):
        assert same(others[number], forward[number])
    assert not any(same(a, b) for a, b in pairwise(forward))
    another = Batches(nuclei, seed=6, size=3, length=9)
    assert not any(same(another[number], forward[number]) for number in range(6))


def test_what_a_batch_holds(nuclei: list[Picture]) -> None:
    sides = []
    for number in range(8):
        batch = Batches(nuclei, seed=1, size=3, length=8)[number]
        side = batch.pixels.shape[-1]
        sides.append(side)
        assert batch.pixels.shape == (3, 3, side, side)
        assert batch.pixels.dtype == torch.float32
        assert 0 <= batch.pixels.min() < batch.pixels.max() <= 1
        assert len(batch.asked) == 3 * OBJECTS
        assert batch.of.tolist() == [0, 0, 1, 1, 2, 2]
        assert batch.areas.shape == (3 * OBJECTS,)
        for one, area in zip(batch.asked, batch.areas, strict=True):
            assert one.truth.shape == (side, side)
            assert area >= one.truth.sum() * 0.999
    assert sides == [SIDE, SIDE, SIDE, SMALL_SIDE] * 2


def test_crops_and_objects_keep_together(nuclei: list[Picture]) -> None:
    maker = CropMaker(nuclei)
    crops = [maker.make(np.random.default_rng(seed)) for seed in range(6)]
    batch = assembled(crops, np.random.default_rng(0))
    for number, crop in enumerate(crops):
        pixels = batch.pixels[number].permute(1, 2, 0).numpy()
        assert np.array_equal((pixels * 255).round(), crop.image)
    for row, one in enumerate(batch.asked):
        crop = crops[int(batch.of[row])]
        if one.truth.any():
            assert np.array_equal(one.truth, crop.masks[row % OBJECTS])
        assert float(batch.areas[row]) == np.float32(crop.areas[row % OBJECTS])


def test_a_feed_goes_on_from_a_number(nuclei: list[Picture]) -> None:
    made = Batches(nuclei, seed=2, size=1, length=5)
    fed = list(feed(made, 2, workers=0))
    assert len(fed) == 3
    assert all(same(batch, made[number]) for number, batch in enumerate(fed, 2))
    assert list(feed(made, 5, workers=0)) == []


def test_another_process_makes_the_same(nuclei: list[Picture]) -> None:
    made = Batches(nuclei, seed=2, size=1, length=4)
    fed = list(feed(made, 1, workers=1))
    assert len(fed) == 3
    assert all(same(batch, made[number]) for number, batch in enumerate(fed, 1))
