"""Resampling against a slow reference that is written straight from the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_histosam.slide.resample import block_mean, needed, resample


def area_mean(
    image: np.ndarray, left: float, top: float, right: float, bottom: float
) -> np.ndarray:
    """Mean over an area, each px weighted by how much of it is covered."""
    total, weight = np.zeros(3), 0.0
    for y in range(math.floor(top), math.ceil(bottom)):
        for x in range(math.floor(left), math.ceil(right)):
            share = (min(right, x + 1) - max(left, x)) * (min(bottom, y + 1) - max(top, y))
            total += image[y, x] * share
            weight += share
    return total / weight


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sx=st.floats(1, 6),
    sy=st.floats(1, 6),
    x0=st.floats(0, 4),
    y0=st.floats(0, 4),
    width=st.integers(1, 6),
    height=st.integers(1, 6),
)
def test_shrinking_is_the_area_mean(
    seed: int, sx: float, sy: float, x0: float, y0: float, width: int, height: int
) -> None:
    (lft, rgt), (top, end) = needed(x0, sx, width), needed(y0, sy, height)
    image = np.random.default_rng(seed).integers(0, 256, (end + 1, rgt + 1, 3), dtype=np.uint8)
    got = resample(image[top:end, lft:rgt], (lft, top), (x0, y0), (sx, sy), (width, height))
    assert got.shape == (height, width, 3)
    assert got.dtype == np.uint8
    for j in range(height):
        for i in range(width):
            box = (x0 + i * sx, y0 + j * sy, x0 + (i + 1) * sx, y0 + (j + 1) * sy)
            # 0.5 is the rounding; the rest is what snapping to whole px may cost.
            assert np.abs(got[j, i] - area_mean(image, *box)).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("factor", [2, 3, 4, 7, 16, 20])
def test_whole_factors_are_exact(factor: int) -> None:
    image = np.random.default_rng(factor).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    h, w = 60 // factor, 80 // factor
    part = image[: h * factor, : w * factor].astype(np.int64)
    sums = part.reshape(h, factor, w, factor, 3).sum(axis=(1, 3))
    want = (2 * sums + factor**2) // (2 * factor**2)  # rounded half up
    np.testing.assert_array_equal(resample(image, (0, 0), (0, 0), (factor, factor), (w, h)), want)
    np.testing.assert_array_equal(block_mean(part.astype(np.uint8), factor, factor), want)


def test_white_stays_white_and_black_black() -> None:
    for value in (0, 255):
        image = np.full((300, 300, 3), value, np.uint8)
        for step in (1.0, 1.3, 2.0, 2.5, 17.3, 0.4):
            size = (int(250 / max(step, 1)),) * 2
            assert (resample(image, (0, 0), (3.7, 2.2), (step, step), size) == value).all()


def test_half_px_shifts_tie_upwards() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[:, ::2] = 1
    got = resample(image, (0, 0), (0.5, 0), (1, 1), (4, 4))
    assert (got == 1).all()  # (0 + 1) / 2 rounds up


@pytest.mark.parametrize(("step", "start"), [(0.5, 3.0), (0.25, 3.3), (0.9, 2.0)])
def test_enlarging_is_linear_at_the_px_centres(step: float, start: float) -> None:
    ramp = np.arange(0, 200, 10, dtype=np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], 20, 0), 3, 2)
    (lft, rgt), (top, end) = needed(start, step, 12), needed(start, step, 9)
    got = resample(image[top:end, lft:rgt], (lft, top), (start, start), (step, step), (12, 9))
    # A linear ramp stays that ramp: px x has value 10 x at its centre x + 0.5.
    centres = start + (np.arange(12) + 0.5) * step
    assert np.abs(got[4, :, 0] - 10 * (centres - 0.5)).max() <= 0.5 + 1e-4
    assert (got == got[:1]).all()


def test_one_axis_may_shrink_while_the_other_grows() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (lft, rgt), (top, end) = needed(5, 2, 10), needed(5, 0.5, 20)
    got = resample(image[top:end, lft:rgt], (lft, top), (5, 5), (2, 0.5), (10, 20))
    halved = image[:, 5:25].reshape(40, 10, 2, 3).mean(axis=2)
    at = 5 + (np.arange(20) + 0.5) * 0.5 - 0.5
    low = np.floor(at).astype(int)
    part = (at - low)[:, None, None]
    want = halved[low] * (1 - part) + halved[low + 1] * part
    assert np.abs(got - want).max() <= 0.5 + 1e-4


def test_nothing_is_read_that_is_not_needed() -> None:
    assert needed(10, 2, 5) == (10, 20)
    assert needed(10.5, 1, 5) == (10, 16)
    assert needed(10, 1.0000000000001, 5) == (10, 15)
    assert needed(-3, 1, 3) == (-3, 0)
