"""Which scales and crops the bundled network looks at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.small import octaves
from napari_histosam.models.small.encoder import MULTIPLE

sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
shares = st.floats(-0.2, 1.2)


def click(x: float, y: float) -> ObjectPrompts:
    return ObjectPrompts(points=np.array([[x, y]]), labels=np.array([1]))


def box(left: float, top: float, right: float, bottom: float) -> ObjectPrompts:
    return ObjectPrompts(box=np.array([left, top, right, bottom]))


@given(sizes, shares, shares)
def test_crops_lie_in_their_octave_and_on_the_encoders_steps(size, x, y):
    crops = octaves.choose(click(x * size[0], y * size[1]), None, size)
    assert [crop.octave for crop in crops] == list(range(octaves.COUNT))
    for crop in crops:
        for start, side, whole in zip(
            (crop.left, crop.top), (crop.width, crop.height), size, strict=True
        ):
            limit = octaves.padded(max(1, round(whole / crop.factor)))
            assert start % MULTIPLE == side % MULTIPLE == 0
            assert 0 <= start
            assert 0 < side <= octaves.CROP
            assert start + side <= limit


@given(st.floats(2, 500), st.floats(0, 1), st.floats(0, 1))
def test_a_box_fits_into_its_one_crop(side, x, y):
    left, top = x * (512 - side), y * (512 - side)
    (crop,) = octaves.choose(box(left, top, left + side, top + side / 2), None, (512, 512))
    low, high = crop.to_net(np.array([[left, top], [left + side, top + side / 2]]))
    assert (low >= -1e-6).all()
    assert (high <= np.array([crop.width, crop.height]) + 1e-6).all()
    if 40 < side < 500:
        assert 36 < side / crop.factor <= 72


def test_an_earlier_mask_tells_the_octave():
    for radius, octave in ((17, 0), (38, 1), (76, 2)):
        rows, columns = np.ogrid[:256, :256]
        earlier = (rows - 128) ** 2 + (columns - 128) ** 2 < (radius / 2) ** 2
        (crop,) = octaves.choose(click(256, 256), earlier, (512, 512))
        assert crop.octave == octave


def test_prompts_far_apart_leave_out_the_fine_octaves():
    prompts = ObjectPrompts(points=np.array([[50.0, 50], [250, 50]]), labels=np.array([1, 1]))
    assert [crop.octave for crop in octaves.choose(prompts, None, (512, 512))] == [2, 3]


def test_an_empty_earlier_mask_tells_nothing():
    nothing = np.zeros((256, 256), bool)
    assert len(octaves.choose(click(256, 256), nothing, (512, 512))) == octaves.COUNT


@pytest.mark.parametrize("size", [(512, 512), (300, 200), (5, 3)])
def test_octaves_are_the_window_shrunk_and_padded(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    found = octaves.octave_images(image)
    assert len(found) == octaves.COUNT
    for number, one in enumerate(found):
        assert one.dtype == np.uint8
        assert one.shape[0] % MULTIPLE == one.shape[1] % MULTIPLE == 0
        width, height = (max(1, round(side / 2**number)) for side in size)
        np.testing.assert_array_equal(one[height:], 243)
        np.testing.assert_array_equal(one[:, width:], 243)
        inner = one[:height, :width]
        assert abs(float(inner.mean()) - float(image.mean())) < 12
    np.testing.assert_array_equal(found[0][: size[1], : size[0]], image)
