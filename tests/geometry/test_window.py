"""The window's map to level-0 px and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.geometry.window import Window

WINDOW = Window(cx=1000.5, cy=2000.25, scale=(2.0, 3.0), size=(64, 32))


def test_bounds_are_centred_and_scaled():
    assert WINDOW.bounds == (1000.5 - 64, 2000.25 - 48, 1000.5 + 64, 2000.25 + 48)


def test_corners_map_to_bounds():
    left, top, right, bottom = WINDOW.bounds
    assert np.allclose(WINDOW.to_level0([[0, 0], [64, 32]]), [[left, top], [right, bottom]])


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.floats(0.01, 64), st.floats(0.01, 64))
def test_from_level0_undoes_to_level0(cx, cy, sx, sy):
    window = Window(cx, cy, (sx, sy), (128, 96))
    points = np.array([[0.0, 0.0], [17.25, 3.5], [128, 96]])
    assert np.allclose(window.from_level0(window.to_level0(points)), points, atol=1e-6)


@pytest.mark.parametrize(
    ("point", "margin", "inside"),
    [
        ((1000.5, 2000.25), 0, True),
        ((936.5, 1952.25), 0, True),
        ((936.5, 1952.25), 1, False),
        ((936.4, 2000), 0, False),
    ],
)
def test_contains_counts_the_margin_in_window_px(point, margin, inside):
    assert WINDOW.contains([point], margin) is inside


def test_dict_round_trip_through_json():
    import json

    assert Window.from_dict(json.loads(json.dumps(WINDOW.to_dict()))) == WINDOW
