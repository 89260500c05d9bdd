"""Affine maps of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_histosam.train.small.warp import CUBIC, LINEAR, NEAREST, blurred, warped


@pytest.mark.parametrize("how", [NEAREST, LINEAR, CUBIC])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_shift_moves_pixels_and_keeps_their_type(how, kind):
    image = np.arange(64, dtype=kind).reshape(8, 8) * 3 + 1
    same = warped(image, np.eye(2, 3), 8, how)
    assert same.dtype == kind
    assert np.array_equal(same, image)
    moved = warped(image, np.array([[1.0, 0, 2], [0, 1, -1]]), 8, how)  # to the right and up
    assert np.array_equal(moved[:7, 2:], image[1:, :6])
    assert not moved[7].any()
    assert not moved[:, :2].any()


def test_pixels_are_counted_from_their_centres():
    image = np.zeros((8, 8), np.float32)
    image[2, 3] = 1
    large = warped(image, np.array([[2, 0, 0.5], [0, 2, 0.5]]), 16, NEAREST)
    assert np.argwhere(large).tolist() == [[4, 6], [4, 7], [5, 6], [5, 7]]


def test_colours_and_what_stands_beyond():
    image = np.full((4, 6, 3), (10, 20, 30), np.uint8)
    out = warped(image, np.array([[1.0, 0, 3], [0, 1, 2]]), 12, NEAREST, (200, 210, 220))
    assert out.shape == (12, 12, 3)
    assert (out[2:6, 3:9] == (10, 20, 30)).all()
    assert (out == (200, 210, 220)).all(2).sum() == 144 - 24


def test_labels_are_not_mixed():
    labels = np.zeros((20, 20), np.uint16)
    labels[4:16, 4:10], labels[4:16, 10:16] = 300, 700
    turned = warped(labels, np.array([[0.8, -0.6, 6], [0.6, 0.8, -3]]) * 1.0, 24, NEAREST)
    assert set(np.unique(turned)) == {0, 300, 700}


def test_blurring_keeps_the_sum_and_spreads():
    image = np.zeros((41, 41), np.float64)
    image[20, 20] = 1
    out = blurred(image, 3.0)
    assert out.dtype == np.float32
    assert out.sum() == pytest.approx(1, abs=1e-3)
    rows = np.arange(41) - 20
    assert (out.sum(1) * rows**2).sum() ** 0.5 == pytest.approx(3, abs=0.1)
    assert np.abs(blurred(np.full((9, 9, 3), 7.0), 2.0) - 7).max() < 1e-4
