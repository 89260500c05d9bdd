"""napari's centre-based frame against the corner-based one, and µm."""

import numpy as np
import pytest

from napari_histosam.geometry import frames


def test_napari_zero_is_the_middle_of_pixel_zero():
    assert frames.corner_from_napari([0.0, 0.0]).tolist() == [0.5, 0.5]


def test_axes_are_swapped_and_half_a_pixel_added():
    assert frames.corner_from_napari([[10, 20], [0, 5]]).tolist() == [[20.5, 10.5], [5.5, 0.5]]


def test_half_a_layer_pixel_is_four_level0_px_at_downsample_8():
    at = frames.corner_from_napari([0, 0], (8.0, 8.0))
    assert at.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("down", [(1.0, 1.0), (8.0, 8.0), (4.0, 2.0)])
def test_napari_round_trip(down):
    xy = np.random.default_rng(3).uniform(-5, 1e5, (50, 2))
    assert np.allclose(frames.corner_from_napari(frames.napari_from_corner(xy, down), down), xy)


def test_um_is_anisotropic_and_undone():
    mpp = (0.25, 0.5)
    assert frames.um_from_corner([100, 100], mpp).tolist() == [25, 50]
    assert frames.corner_from_um([25, 50], mpp).tolist() == [100, 100]


def test_layer_transform_agrees_with_level0_layer():
    # What napari shows at world w is data * scale + translate; a level-0 layer has scale mpp.
    mpp, down, left_top = (0.25, 0.5), (4.0, 4.0), (1000.0, 2000.0)
    scale, translate = frames.napari_layer_transform(left_top, down, mpp)
    data_yx = np.array([7.0, 3.0])
    world = data_yx * scale + translate
    level0_yx = world / mpp[::-1]
    expected = np.asarray(left_top) + frames.corner_from_napari(data_yx, down)
    assert np.allclose(frames.corner_from_napari(level0_yx), expected)


def test_layer_transform_of_level0_is_plain():
    assert frames.napari_layer_transform((0, 0), (1, 1), (0.5, 0.5)) == ((0.5, 0.5), (0.0, 0.0))
