"""The slide's frame: world and level-0 px, at any scale and translate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.viewer.frame import SlideFrame

mpp = st.floats(0.1, 30)
far = st.floats(-1e5, 1e5)


@given(far, far, mpp, mpp, far, far)
def test_there_and_back(x, y, sx, sy, ox, oy):
    frame = SlideFrame((sx, sy), "um", (ox, oy))
    assert frame.to_level0(frame.to_world(x, y)) == pytest.approx((x, y), abs=1e-3)


def test_the_centre_of_the_first_pixel_is_the_origin():
    assert SlideFrame.of_slide((0.5, 0.25)).to_world(0.5, 0.5) == (0.0, 0.0)
    assert SlideFrame.of_slide(None).to_level0((0.0, 0.0)) == (0.5, 0.5)


@given(mpp, mpp, st.floats(0.5, 32), st.integers(0, 99), st.integers(0, 99))
def test_a_window_layer_puts_its_pixels_where_the_window_says(sx, sy, scale, i, j):
    from napari.layers import Labels

    frame = SlideFrame((sx, sy), "um", (3.0, -7.0))
    window = Window(500.0, 800.0, (scale, scale * 1.5), (100, 100))
    layer = Labels(np.zeros((100, 100), np.uint8), **frame.window_layer(window))
    x, y = frame.to_level0(layer.data_to_world((i, j)))
    assert (x, y) == pytest.approx(tuple(window.to_level0([j + 0.5, i + 0.5])), rel=1e-6, abs=1e-3)


def test_a_layer_of_another_plugin_with_its_own_transform():
    from napari.layers import Image

    pixels = np.zeros((10, 10, 3), np.uint8)
    layer = Image(pixels, rgb=True, scale=(2.0, 3.0), translate=(10.0, 20.0))
    frame = SlideFrame.of_layer(layer)
    assert frame.to_level0(layer.data_to_world((4, 7))) == pytest.approx((7.5, 4.5))
    turned = Image(pixels, rgb=True, rotate=30)
    with pytest.raises(InputError, match="rotated"):
        SlideFrame.of_layer(turned)


def test_giving_a_scale_keeps_the_place():
    frame = SlideFrame((2.0, 2.0), "pixel", (10.0, 20.0)).with_mpp((0.25, 0.5))
    assert frame.origin == (1.25, 5.0)
    assert frame.unit == "um"
