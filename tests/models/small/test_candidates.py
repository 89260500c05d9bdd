"""All masks for an object's prompts: how many, from which octaves, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.small.candidates import encoded, find, judge
from napari_histosam.models.small.decoder import DESCRIBED, MASKS
from napari_histosam.models.small.encoder import CHANNELS, STRIDES
from napari_histosam.models.small.network import SmallNet
from napari_histosam.models.small.octaves import COUNT

SIDE = 256
CLICK = ObjectPrompts(points=np.array([[100.0, 120.0]]), labels=np.array([1]))
CORRECTION = ObjectPrompts(
    points=np.array([[100.0, 120.0], [110.0, 130.0]]),
    labels=np.array([1, 0]),
    logits=np.where(np.hypot(*(np.mgrid[:128, :128] - 60)) < 12, 4.0, -4.0).astype(np.float32),
)
BOX = ObjectPrompts(box=np.array([80.0, 90.0, 130.0, 150.0]))


@pytest.fixture(scope="module")
def net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().for_inference()


@pytest.fixture(scope="module")
def view(net):
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return encoded(net, "cpu", image)


def test_a_window_is_remembered_at_every_octave(view):
    assert view.size == (SIDE, SIDE)
    for octave in range(COUNT):
        for stride, channels in zip(STRIDES, CHANNELS, strict=True):
            side = SIDE // 2**octave // stride
            array = view.arrays[f"octave{octave}_stride{stride}"]
            assert array.shape == (channels, side, side)
            assert array.dtype == np.float32


def test_a_lone_click_is_answered_at_every_octave_by_every_mask(net, view):
    found = find(net, "cpu", view, CLICK)
    assert len(found.crops) == len(found.logits) == COUNT * MASKS
    assert sorted({crop.octave for crop in found.crops}) == list(range(COUNT))
    assert found.kinds.tolist() == [*range(MASKS)] * COUNT
    assert found.described.shape == (COUNT * MASKS, DESCRIBED)
    for crop, logits, area in zip(found.crops, found.logits, found.areas, strict=True):
        assert logits.shape == (crop.height // 2, crop.width // 2)
        assert area == 4 * crop.factor**2 * (logits > 0).sum()
    scores = judge(net, "cpu", found)
    assert scores.shape == (COUNT * MASKS,)
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("prompts", [BOX, CORRECTION], ids=["box", "correction"])
def test_where_more_is_known_there_is_one_answer(net, view, prompts):
    found = find(net, "cpu", view, prompts)
    assert len(found.crops) == 1
    assert found.kinds.tolist() == [0]
    assert judge(net, "cpu", found).shape == (1,)


def test_half_precision_is_close(net):
    image = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    torch.manual_seed(0)
    half = SmallNet().for_inference().to_half()
    exact = find(net, "cpu", encoded(net, "cpu", image), BOX)
    rough = find(half, "cpu", encoded(half, "cpu", image), BOX)
    assert np.abs(exact.logits[0] - rough.logits[0]).mean() < 0.05 * np.abs(exact.logits[0]).mean()
    assert rough.described.dtype == np.float32
