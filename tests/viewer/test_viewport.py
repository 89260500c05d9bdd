"""World, camera and level-0 px: round trips, whatever else the viewer shows."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_histosam.errors import InputError
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.viewport import Viewport

PIXELS = np.zeros((60, 80, 3), np.uint8)


def placed(**place):
    return Image(PIXELS, rgb=True, name="it", **place)


@pytest.mark.parametrize(
    ("place", "step", "unit", "um"),
    [
        ({}, (1, 1), "pixel", None),
        ({"scale": (0.5, 0.25), "units": ("um", "um")}, (0.25, 0.5), "micrometer", (0.25, 0.5)),
        ({"scale": (5e-4, 5e-4), "units": ("mm", "mm")}, (5e-4, 5e-4), "millimeter", (0.5, 0.5)),
        ({"affine": [[3, 0, 7], [0, 2, -4], [0, 0, 1]]}, (2, 3), "pixel", None),
    ],
)
def test_the_frame_of_a_layer(place, step, unit, um):
    layer = placed(**place)
    frame = SlideFrame.of_layer(layer)
    assert frame.step == pytest.approx(step)
    assert frame.unit == unit
    assert frame.um == (None if um is None else pytest.approx(um))
    for x, y in ((0.5, 0.5), (20.25, 3.75)):
        world = layer.data_to_world((y - 0.5, x - 0.5))
        assert frame.to_level0(world) == pytest.approx((x, y))
        assert frame.to_world(x, y) == pytest.approx(world)


@pytest.mark.parametrize(
    "place",
    [
        {"rotate": 5.0},
        {"shear": [0.2]},
        {"scale": (1.0, -1.0)},
        {"affine": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]},
        {"units": ("um", "nm")},
    ],
)
def test_what_does_not_lie_upright_is_refused(place):
    with pytest.raises(InputError, match="The layer it"):
        SlideFrame.of_layer(placed(**place))


@pytest.mark.parametrize("other", [None, ("nm", 400.0), ("mm", 0.01), ("pixel", 1.0)])
def test_what_is_looked_at_is_in_the_middle(other):
    viewer = ViewerModel()
    slide = viewer.add_image(PIXELS, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    if other:
        viewer.add_image(np.zeros((9, 9)), scale=(other[1],) * 2, units=(other[0],) * 2)
    view = Viewport(viewer, SlideFrame.of_layer(slide))
    view.look_at(10, 20, 30, 60)
    left, top, right, bottom = view.box
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((20, 40))
    height, width = viewer.canvas.size
    assert view.unit == pytest.approx((right - left) / width)
    assert view.unit == pytest.approx((bottom - top) / height)
    assert view.to_level0(view.to_world(12.5, 7.0)) == pytest.approx((12.5, 7.0))
    view.look_at(10, 10, 10, 10)
    assert view.unit == pytest.approx(1 / 4)
