"""Simulated users: boxes hold the object, clicks lie where they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from napari_histosam.train.simulate import (
    any_point,
    deepest_point,
    jittered,
    largest_error,
    next_click,
    tight_box,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=18)
CORNERS = st.tuples(*[st.integers(0, 18)] * 4)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Loose pixels, or some rectangles and holes: such as have an inside."""
    shape = shape or draw(SHAPES)
    if draw(st.booleans()):
        return draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans()))
    mask = np.zeros(shape, bool)
    for left, top, width, height in draw(st.lists(CORNERS, max_size=4)):
        mask[top : top + height, left : left + width] ^= True
    return mask


MASKS = masks()
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(masks(shape), masks(shape)))
TOUCHING = np.ones((3, 3))


def at(mask: np.ndarray, point: tuple[float, float]) -> bool:
    """Whether a mask holds a point, which must be a pixel's centre."""
    x, y = point
    assert (x % 1, y % 1) == (0.5, 0.5)
    assert 0 < x < mask.shape[1]
    assert 0 < y < mask.shape[0]
    return bool(mask[int(y), int(x)])


def sizes(error: np.ndarray) -> list[int]:
    parts, count = ndimage.label(error, TOUCHING)
    return [int((parts == number).sum()) for number in range(1, count + 1)]


@given(MASKS)
def test_a_tight_box_holds_the_mask_and_no_more(mask: np.ndarray) -> None:
    box = tight_box(mask)
    if box is None:
        assert not mask.any()
        return
    left, top, right, bottom = (int(side) for side in box)
    assert box.tolist() == [left, top, right, bottom]
    part = mask[top:bottom, left:right]
    assert part.sum() == mask.sum()
    for side in (part[0], part[-1], part[:, 0], part[:, -1]):
        assert side.any()


@given(MASKS.filter(np.any), st.integers(0, 9))
def test_points_lie_inside_the_mask(mask: np.ndarray, seed: int) -> None:
    assert at(mask, deepest_point(mask))
    assert at(mask, any_point(mask, np.random.default_rng(seed)))


@given(MASKS.filter(np.any))
def test_no_place_is_much_deeper_than_the_deepest_point(mask: np.ndarray) -> None:
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    x, y = deepest_point(mask)
    assert depth[int(y), int(x)] >= 0.93 * depth.max()  # distances in OpenCV are approximate


def test_the_images_border_counts_as_outside() -> None:
    assert deepest_point(np.ones((7, 9), bool))[1] == 3.5
    assert deepest_point(np.ones((9, 9), bool)) == (4.5, 4.5)


def test_any_pixel_can_be_drawn() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1, 2], mask[3, 0], mask[0, 5] = True, True, True
    rng = np.random.default_rng(0)
    assert {any_point(mask, rng) for _ in range(60)} == {(2.5, 1.5), (0.5, 3.5), (5.5, 0.5)}


@given(
    arrays(float, 2, elements=st.floats(-50, 50)),
    arrays(float, 2, elements=st.floats(1, 300)),
    st.floats(0, 0.5),
    st.integers(0, 99),
)
def test_jitter_moves_each_side_by_a_share_of_its_own_length(
    corner: np.ndarray, size: np.ndarray, share: float, seed: int
) -> None:
    box = np.concatenate([corner, corner + size])
    moved = np.abs(jittered(box, share, np.random.default_rng(seed)) - box)
    assert (moved <= share * np.tile(size, 2) + 1e-9).all()


def test_jitter_reaches_its_limits_on_all_four_sides() -> None:
    rng = np.random.default_rng(0)
    box, most = np.array([10.0, 20, 110, 40]), np.array([5, 1, 5, 1])
    moved = np.stack([jittered(box, 0.05, rng) for _ in range(400)]) - box
    assert np.abs(moved.max(0) - most).max() < 0.1
    assert np.abs(moved.min(0) + most).max() < 0.1
    assert np.array_equal(jittered(box, 0, rng), box)


@given(PAIRS)
def test_the_largest_error_is_whole_and_of_its_kind(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, shown = pair
    missing, extra = truth & ~shown, shown & ~truth
    most = max([*sizes(missing), *sizes(extra)], default=0)
    found = largest_error(truth, shown)
    if found is None:
        assert most < 4
        return
    part, is_missing = found
    assert part.sum() == most >= 4
    assert not (part & ~(missing if is_missing else extra)).any()
    assert len(sizes(part)) == 1


@given(PAIRS)
def test_the_next_click_lies_in_an_error_and_has_its_sign(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, shown = pair
    click = next_click(truth, shown)
    if click is None:
        return
    inside = at(truth, click[:2])
    assert inside == click.positive
    assert at(shown, click[:2]) != inside


@given(MASKS)
def test_what_is_right_needs_no_click(mask: np.ndarray) -> None:
    assert next_click(mask, mask) is None
    assert largest_error(mask, mask) is None


@given(PAIRS)
def test_obeyed_clicks_come_to_an_end(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, shown = pair
    for _ in range(truth.size):
        found = largest_error(truth, shown)
        if found is None:
            break
        shown = np.where(found[0], found[1], shown)
    assert next_click(truth, shown) is None
    assert max([*sizes(truth & ~shown), *sizes(shown & ~truth)], default=0) < 4


@pytest.mark.parametrize(("add", "positive"), [(0, True), (1, False)])
def test_the_larger_of_two_errors_is_clicked_at_its_middle(
    paint: Callable, add: int, positive: bool
) -> None:
    truth = paint(60, 90, (20, 30, 8), (60, 30, 10))[1] > 0
    shown = truth.copy()
    shown[20:41, 49:72] = False  # the larger disc is missing
    if add:
        shown[0:12, 0:90] = True  # and a larger bar is too much
    click = next_click(truth, shown)
    assert click is not None
    assert click.positive is positive
    if positive:
        assert np.hypot(click.x - 60, click.y - 30) < 1.5
    else:
        assert 4 < click.y < 8


def test_three_pixels_are_not_worth_a_click() -> None:
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    shown = truth.copy()
    shown[5, 5:8] = False
    assert next_click(truth, shown) is None
    shown[5, 8] = False
    click = next_click(truth, shown)
    assert click is not None
    assert (int(click.y), click.positive) == (5, True)
