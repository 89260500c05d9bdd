"""Recoloured crops: another look, the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from napari_histosam.train.small.stain import like_haematoxylin, recoloured

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(60)


def grey(image: np.ndarray) -> np.ndarray:
    return image.astype(float).mean(2)


def noisy(image: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def crop(paint: Callable) -> tuple[np.ndarray, np.ndarray]:
    """A crop like H&E and where its nuclei are."""
    image, labels = paint(128, 128, (40, 40, 18), (90, 80, 24))
    return noisy(image), labels > 0


@pytest.fixture(scope="module")
def glowing(paint: Callable) -> tuple[np.ndarray, np.ndarray]:
    """A fluorescence crop and where its nuclei are."""
    image, labels = paint(
        128, 128, (40, 40, 18), (90, 80, 24), colour=(120, 120, 120), ground=(14, 14, 14)
    )
    return noisy(image), labels > 0


@pytest.mark.parametrize("change", [recoloured, like_haematoxylin])
def test_the_same_state_gives_the_same_look(change: Callable, crop: tuple) -> None:
    image, _ = crop
    before = image.copy()
    looks = [change(image, np.random.default_rng(seed)) for seed in SEEDS]
    again = [change(image, np.random.default_rng(seed)) for seed in SEEDS]
    assert np.array_equal(image, before)
    assert all(np.array_equal(a, b) for a, b in zip(looks, again, strict=True))
    assert all(look.shape == image.shape and look.dtype == np.uint8 for look in looks)
    means = np.array([look.mean((0, 1)) for look in looks])
    assert (means.std(0) > 5).all()


def test_nuclei_stay_where_they_are(crop: tuple) -> None:
    image, nuclei = crop
    kernel = np.ones((9, 9), np.uint8)
    rim = cv2.dilate(nuclei.astype(np.uint8), kernel) - cv2.erode(nuclei.astype(np.uint8), kernel)
    steep, apart, darker = 0, 0, 0
    for seed in SEEDS:
        look = recoloured(image, np.random.default_rng(seed))
        softened = cv2.GaussianBlur(grey(look), (0, 0), 1.5)
        slope = np.hypot(*np.gradient(softened))
        steep += slope[rim > 0].mean() > 2 * slope[rim == 0].mean()
        apart += np.abs(look[nuclei].mean(0) - look[~nuclei].mean(0)).max() > 20
        darker += grey(look)[nuclei].mean() < grey(look)[~nuclei].mean()
    assert steep > 0.85 * len(SEEDS)
    assert darker > 0.95 * len(SEEDS)
    assert apart > 0.95 * len(SEEDS)


def test_some_looks_are_grey_and_some_hardly_differ(crop: tuple) -> None:
    image, _ = crop
    looks = [recoloured(image, np.random.default_rng(seed)) for seed in range(200)]
    # Sharpened, noisy or coded greys have a little colour again.
    colourless = [np.ptp(look.astype(int), axis=2).mean() < 6 for look in looks]
    assert 2 < sum(colourless) < 40
    distance = [np.abs(look.astype(int) - image).mean() for look in looks]
    assert min(distance) < 8
    assert max(distance) > 30


def test_a_glowing_nucleus_becomes_a_dark_one(glowing: tuple) -> None:
    image, nuclei = glowing
    blue = 0
    for seed in SEEDS:
        look = like_haematoxylin(image, np.random.default_rng(seed))
        inside, around = look[nuclei].mean(0), look[~nuclei].mean(0)
        assert inside.mean() < around.mean() - 15
        blue += inside[2] > inside[0]
    assert blue > 0.9 * len(SEEDS)  # haematoxylin takes red away, not blue


def test_a_dim_picture_is_seen_as_well_as_a_bright_one(glowing: tuple) -> None:
    image, nuclei = glowing
    for seed in range(10):
        dim = like_haematoxylin(image // 4, np.random.default_rng(seed))
        assert grey(dim)[nuclei].mean() < grey(dim)[~nuclei].mean() - 15


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("change", [recoloured, like_haematoxylin])
def test_a_plain_crop_can_be_changed(change: Callable, value: int) -> None:
    plain = np.full((128, 128, 3), value, np.uint8)
    for seed in range(10):
        look = change(plain, np.random.default_rng(seed))
        assert look.shape == plain.shape
        assert look.dtype == np.uint8
