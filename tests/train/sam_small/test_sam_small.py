"""The training of a SAM behind the bundled encoder: seeded, resumable, and it learns."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from napari_histosam import home
from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.sam.beginning import fresh_sam
from napari_histosam.models.sam.build import BUNDLED, load_sam
from napari_histosam.train.sam_small import batches
from napari_histosam.train.sam_small.batches import Batches
from napari_histosam.train.sam_small.loop import Recipe, Training, _moved
from napari_histosam.train.small.pool import measured
from napari_histosam.train.small.prompting import Asked


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    image = np.full((160, 160, 3), 235, np.uint8)
    labels = np.zeros((160, 160), np.uint16)
    for number in range(1, 5):
        at = 40 + 80 * ((number - 1) % 2), 40 + 80 * ((number - 1) // 2)
        cv2.circle(image, at, 24, (150, 80, 160), -1)
        cv2.circle(labels, at, 24, number, -1)
    noisy = image.astype(np.int16) + rng.integers(-9, 9, image.shape)
    return [measured("made_1", noisy.clip(0, 255).astype(np.uint8), labels)]


@pytest.fixture
def begin(pictures, monkeypatch):
    monkeypatch.setattr(batches, "_SIDES", ((128, 2),))
    small = read_checkpoint(home.shipped("weights") / "histosam-small.safetensors")

    def made(folder, **more):
        recipe = Recipe(**{"steps": 4, "warm_up": 1, "every": 2, "half": False, **more})
        sam = load_sam(fresh_sam(small, 1), "fresh", BUNDLED)
        return Training(folder, recipe, sam, pictures, pictures, workers=0)

    return made


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch):
    monkeypatch.setattr("napari_histosam.train.sam_small.loop._HELD_OUT_BATCHES", 2)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(begin, tmp_path):
    whole = begin(tmp_path / "whole")
    trunk = whole.sam.image_encoder.trunk.out16[0].weight.clone()
    whole.run()
    begin(tmp_path / "parts").run(until=2)
    rest = begin(tmp_path / "parts")
    assert rest.step == 2
    rest.run()
    for name, value in whole.state().items():
        assert torch.equal(value, rest.state()[name]), name
    assert torch.equal(trunk, whole.sam.image_encoder.trunk.out16[0].weight)
    assert "val_iou_box" in (tmp_path / "whole" / "log.csv").read_text("utf-8")


def test_other_options_are_refused_for_a_run_that_is_there(begin, tmp_path):
    begin(tmp_path).run(until=2)
    with pytest.raises(InputError, match="was run with rate"):
        begin(tmp_path, rate=1e-3)


def test_the_loss_falls(begin, pictures, tmp_path):
    training = begin(tmp_path, steps=30, warm_up=5, every=100, rate=1e-3)
    batch = Batches(pictures, 1, 1)[0]
    first, _ = training._learn(batch)
    for _ in range(12):
        last, _ = training._learn(batch)
    assert math.isfinite(last)
    assert last < 0.8 * first


def test_prompts_lie_where_the_part_lies(pictures):
    """Its corner is in cells of 16 px of the square; prompts are in px of half that size."""
    asked = Asked(np.ones((8, 8), bool), [(3.0, 4.0)], [1], np.array([1.0, 2.0, 5.0, 6.0]))
    moved = _moved(asked, (2, 5))
    assert moved.points == [(3.0 + 40, 4.0 + 16)]
    assert moved.box.tolist() == [41.0, 18.0, 45.0, 22.0]
    assert asked.points == [(3.0, 4.0)]
    batch = Batches(pictures, 1, 8)[3]
    assert batch.pixels.shape[2] == 512
    assert all(0 <= edge <= 64 - 32 for edge in batch.corner)
    for asked in batch.asked:
        assert asked.truth.shape == (256, 256)
        assert all(0 <= x <= 256 and 0 <= y <= 256 for x, y in asked.points)
