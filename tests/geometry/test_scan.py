"""Filling many geometries at once."""

import numpy as np
import pytest
from shapely import MultiPolygon, Point, Polygon, box

from napari_histosam.geometry.scan import fill, spans


def test_values_and_the_later_one_wins():
    image = fill(np.zeros((6, 8), np.uint32), [box(0, 0, 5, 5), box(3, 3, 8, 6)], [7, 70000])
    assert image[0, 0] == 7
    assert image[4, 4] == 70000
    assert image[5, 0] == 0


def test_only_inside_pixels_are_touched():
    image = np.full((4, 4), 9, np.uint8)
    fill(image, [box(1, 1, 3, 3)], [0])
    assert (image == 0).sum() == 4


def test_geometries_without_area_do_not_shift_the_others():
    image = fill(np.zeros((3, 3), np.uint8), [Point(1, 1), Polygon(), box(0, 0, 3, 3)], [1, 2, 3])
    assert (image == 3).all()


def test_nothing_to_fill():
    assert not fill(np.zeros((3, 3), np.uint8), [], []).any()


def test_spans_are_sorted_runs():
    both = MultiPolygon([box(0, 0, 2, 1), box(4, 0, 6, 1)])
    owner, row, start, stop = spans([box(1, 1, 2, 2), both], (3, 8))
    assert owner.tolist() == [0, 1, 1]
    assert row.tolist() == [1, 0, 0]
    assert (start.tolist(), stop.tolist()) == ([1, 0, 4], [2, 2, 6])


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="contiguous"):
        fill(np.zeros((4, 4), np.uint8, order="F"), [box(0, 0, 1, 1)], [1])
    with pytest.raises(ValueError, match="contiguous"):
        fill(np.zeros(4, np.uint8), [box(0, 0, 1, 1)], [1])
