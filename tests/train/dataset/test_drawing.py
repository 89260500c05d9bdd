"""Drawn windows: labels say what the outlines say, and what is unknown is marked."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.geometry.masks import mask_to_polygons, polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.records import SlideObject
from napari_histosam.train.dataset.drawing import UNKNOWN, Drawer
from napari_histosam.train.dataset.kinds import mark

SIZE = (400, 400)
WINDOW = Window(100, 100, (1.0, 1.0), (100, 100))  # 50 to 150


def draw(*objects: SlideObject, window: Window = WINDOW, octave: int = 0, octaves=None, homes=()):
    made = mark(objects, SIZE)
    return Drawer(made, octaves or [0] * len(made.objects), SIZE).draw(window, octave, homes)


def square(x: float, y: float, side: float = 20.0, class_name: str | None = None) -> SlideObject:
    return SlideObject(shapely.box(x, y, x + side, y + side), class_name)


grid_cells = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=16)


@given(grid_cells, st.floats(3, 12), st.floats(0, 1), st.sampled_from([(1.0, 1.0), (0.5, 0.8)]))
def test_labels_and_objects_go_both_ways(cells, radius, shift, scale) -> None:
    window = Window(100, 100, scale, (100, 100))
    objects = [
        SlideObject(shapely.Point(62 + 25 * x + shift, 62 + 25 * y).buffer(radius))
        for x, y in sorted(cells)
    ]
    drawn = draw(*objects, window=window, homes=range(len(objects)))
    assert [one.number for one in drawn.instances] == list(range(1, len(drawn.instances) + 1))
    seen = {one.index: one for one in drawn.instances}
    for index, one in enumerate(objects):
        expected = polygons_to_mask(one.geometry, window)
        if index not in seen:
            assert not expected.any()
            continue
        got = drawn.labels == seen[index].number
        assert np.array_equal(got, expected)
        assert np.array_equal(seen[index].in_window(window.size), expected)
        assert seen[index].visible == 1
        assert seen[index].area == expected.sum()
        back = mask_to_polygons(got, window)
        assert np.array_equal(polygons_to_mask(back, window), got)
    assert ((drawn.ignore == 0) == (drawn.labels > 0)).all()


def test_the_smaller_object_is_on_top() -> None:
    drawn = draw(square(90, 90, 10), square(80, 80, 40))
    small, large = drawn.instances
    assert (drawn.labels == small.number).sum() == 100
    assert (drawn.labels == large.number).sum() == 1600 - 100
    assert (small.visible, large.visible) == (1, 1500 / 1600)
    assert large.area == 1600


def test_an_object_that_is_covered_is_none() -> None:
    drawn = draw(square(80, 80), square(80, 80))
    (one,) = drawn.instances
    assert (one.number, one.index) == (1, 1)


def test_regions_are_known_and_the_rest_is_not() -> None:
    drawn = draw(square(60, 60, 30, "Region*"), square(70, 70, 10, "Ignore*"), square(62, 62, 5))
    assert drawn.ignore.dtype == np.uint8
    assert set(np.unique(drawn.ignore)) == {0, UNKNOWN}
    assert (drawn.ignore == 0).sum() == 900 - 100
    assert drawn.ignore[20, 20] == UNKNOWN
    assert drawn.labels[14, 14] == 1
    outside = draw(square(0, 0, 60, "Region*"), window=Window(20, 20, (1.0, 1.0), (100, 100)))
    assert (outside.ignore == 0).sum() == 60 * 60  # what is not on the slide is not known


def test_cut_objects_count_if_they_show_enough() -> None:
    region = square(0, 0, 400, "Region*")
    half, sliver = square(40, 60), square(32, 100)
    drawn = draw(region, half, sliver)
    (one,) = drawn.instances
    assert (one.index, one.whole, one.area) == (0, False, 200)
    assert (drawn.ignore[50:70, 0:2] == UNKNOWN).all()
    assert (drawn.ignore == UNKNOWN).sum() == 2 * 20


def test_objects_of_coarser_windows_are_unknown_in_finer_ones() -> None:
    region, large = square(0, 0, 400, "Region*"), square(60, 60, 340)
    drawn = draw(region, large, octaves=[2])
    assert drawn.instances == ()
    assert (drawn.ignore == UNKNOWN).sum() == 90 * 90


def test_specks_are_left_out_of_coarser_windows() -> None:
    window = Window(200, 200, (4.0, 4.0), (100, 100))
    small, large, region = square(60, 60, 12), square(40, 40, 200), square(0, 0, 400, "Region*")
    drawn = draw(small, large, region, window=window, octave=2, octaves=[0, 2])
    (one,) = drawn.instances
    assert (one.index, one.visible) == (1, 1)
    assert not (drawn.ignore == UNKNOWN).any()
    alone = draw(small, region, window=window, octave=2, octaves=[0])
    assert alone.instances == ()
    assert (alone.ignore == UNKNOWN).sum() == 9
    tiny = draw(square(60, 60, 2), homes=[0])  # but an object is always shown at home
    assert len(tiny.instances) == 1
    assert tiny.labels.dtype == np.uint16
