"""Mask to polygon and back: exact, valid, holes and parts kept, at any scale."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapely import MultiPolygon, Polygon, box

from napari_histosam.geometry.masks import (
    EXACT_TOLERANCE,
    mask_to_outline,
    mask_to_polygons,
    polygons_to_mask,
)
from napari_histosam.geometry.trace import trace
from napari_histosam.geometry.window import Window

masks = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))
scales = st.tuples(st.floats(0.1, 33), st.floats(0.1, 33))
centres = st.tuples(st.floats(-1e4, 2e5), st.floats(-1e4, 2e5))


def window_of(mask, scale=(1.0, 1.0), centre=None):
    h, w = mask.shape
    cx, cy = centre or (w * scale[0] / 2, h * scale[1] / 2)
    return Window(cx, cy, scale, (w, h))


def picture(text):
    return np.array([[c == "#" for c in row] for row in text.split()])


def blobs(seed, n=256, level=0.6):
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).random((n, n)), n / 30)
    return field > np.quantile(field, level)


@settings(max_examples=400, deadline=None)
@given(masks)
def test_area_equals_pixels_and_geometry_is_valid(mask):
    polygon = mask_to_polygons(mask)
    if not mask.any():
        assert polygon is None
        return
    assert polygon.is_valid
    assert polygon.area == mask.sum()
    assert polygon.equals(
        shapely.union_all([box(x, y, x + 1, y + 1) for y, x in np.argwhere(mask)])
    )


@settings(max_examples=300, deadline=None)
@given(masks, scales, centres)
def test_round_trip_is_the_identity_at_any_scale_and_place(mask, scale, centre):
    window = window_of(mask, scale, centre)
    assert np.array_equal(polygons_to_mask(mask_to_polygons(mask, window), window), mask)


@settings(max_examples=300, deadline=None)
@given(masks, scales, centres)
def test_outline_round_trip_is_the_identity_too(mask, scale, centre):
    window = window_of(mask, scale, centre)
    outline = mask_to_outline(mask, window)
    assert outline is None or outline.is_valid
    assert np.array_equal(polygons_to_mask(outline, window), mask)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_parts_are_4_connected_and_rings_turn_at_every_vertex(mask):
    from scipy.ndimage import label

    rings = trace(mask)
    if rings is None:
        return
    assert (~rings.hole).sum() == label(mask)[1]
    for start, stop in zip(rings.starts[:-1], rings.starts[1:], strict=True):
        ring = rings.corners[start:stop]
        step = np.roll(ring, -1, 0) - ring
        assert ((step == 0).sum(1) == 1).all()
        assert ((step[:, 0] == 0) != (np.roll(step, 1, 0)[:, 0] == 0)).all()


def test_random_noise_of_real_size_round_trips():
    mask = np.random.default_rng(0).random((300, 200)) < 0.5
    window = window_of(mask, (1.3, 0.7), (5000.3, 7000.7))
    polygon = mask_to_polygons(mask, window)
    assert polygon.is_valid
    assert np.array_equal(polygons_to_mask(polygon, window), mask)


def test_hole_and_second_part_are_kept():
    mask = picture("####.. #..#.. ####.# .....#")
    polygon = mask_to_polygons(mask)
    assert isinstance(polygon, MultiPolygon)
    assert [len(p.interiors) for p in polygon.geoms] == [1, 0]
    assert polygon.area == mask.sum()


def test_diagonal_pixels_touch_in_a_point():
    polygon = mask_to_polygons(picture("#. .#"))
    assert len(polygon.geoms) == 2
    assert polygon.is_valid
    assert polygon.geoms[0].intersection(polygon.geoms[1]).equals(shapely.Point(1, 1))


def test_hole_that_touches_its_shell_stays_a_hole():
    # The unset pixel inside meets the outside in a corner only.
    polygon = mask_to_polygons(picture("###. #.#. ##.. ###."))
    assert isinstance(polygon, Polygon)
    assert polygon.is_valid
    assert len(polygon.interiors) == 1


def test_one_pixel_is_a_square_of_level0_pixels():
    window = Window(10, 10, (4.0, 4.0), (5, 5))
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    assert mask_to_polygons(mask, window).equals(box(12, 8, 16, 12))
    assert mask_to_outline(mask, window).equals(box(12, 8, 16, 12))


def test_mask_pixel_i_covers_i_times_scale():
    # The half-pixel trap: at downsample 8 pixel centres would be off by 4 level-0 px.
    mask = np.ones((4, 6), bool)
    window = window_of(mask, (8.0, 8.0))
    assert mask_to_polygons(mask, window).bounds == (0, 0, 48, 32)


def test_shells_have_positive_area_and_holes_negative():
    polygon = mask_to_polygons(picture("### #.# ###"))
    assert polygon.exterior.is_ccw
    assert not polygon.interiors[0].is_ccw


def test_pixel_centre_rule_on_edges_shares_no_pixel_and_loses_none():
    window = Window(5, 5, (1.0, 1.0), (10, 10))
    left, right = box(0, 0, 4.5, 10), box(4.5, 0, 10, 10)
    a, b = polygons_to_mask(left, window), polygons_to_mask(right, window)
    assert not (a & b).any()
    assert (a | b).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_triangulated_plane_is_covered_exactly_once(seed):
    points = np.random.default_rng(seed).uniform(-3, 15, (12, 2)).round(1)
    hull = shapely.MultiPoint(points)
    triangles = shapely.get_parts(shapely.delaunay_triangles(hull))
    window = Window(6, 6, (1.0, 1.0), (12, 12))
    total = sum(polygons_to_mask(t, window).astype(int) for t in triangles)
    assert total.max() <= 1
    assert np.array_equal(total > 0, polygons_to_mask(shapely.union_all(triangles), window)) or (
        # Union may move a vertex by rounding; then only centres on an edge may differ.
        np.count_nonzero((total > 0) != polygons_to_mask(hull.convex_hull, window)) <= 2
    )


@pytest.mark.parametrize("seed", range(5))
def test_fill_agrees_with_point_in_polygon(seed):
    points = np.random.default_rng(seed).uniform(0, 40, (9, 2))
    shape = shapely.make_valid(Polygon(points))
    window = Window(20, 20, (1.0, 1.0), (40, 40))
    ys, xs = np.mgrid[:40, :40] + 0.5
    assert np.array_equal(polygons_to_mask(shape, window), shapely.contains_xy(shape, xs, ys))


def test_geometry_partly_outside_the_window_is_cut():
    window = Window(5, 5, (1.0, 1.0), (10, 10))
    assert polygons_to_mask(box(-100, -1e9, 3, 1e9), window).sum() == 30
    assert not polygons_to_mask(box(50, 50, 60, 60), window).any()


def test_nothing_points_and_lines_cover_no_pixel():
    window = Window(5, 5, (1.0, 1.0), (10, 10))
    for nothing in (None, Polygon(), shapely.Point(3, 3), shapely.LineString([[0, 0], [9, 9]])):
        assert not polygons_to_mask(nothing, window).any()


def test_bow_tie_is_filled_on_both_sides():
    window = Window(5, 5, (1.0, 1.0), (10, 10))
    tie = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert polygons_to_mask(tie, window).sum() > 40


def test_mask_of_another_size_than_the_window_is_refused():
    with pytest.raises(ValueError, match="window"):
        mask_to_polygons(np.ones((4, 4), bool), Window(0, 0, (1, 1), (5, 4)))
    with pytest.raises(ValueError, match="two dimensions"):
        mask_to_polygons(np.ones((4, 4, 3), bool))


@pytest.mark.parametrize("tolerance", [0.2, EXACT_TOLERANCE, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_outline_keeps_iou_at_any_tolerance(seed, tolerance):
    mask = blobs(seed)
    window = window_of(mask, (2.0, 3.0), (900.0, 800.0))
    outline, exact = mask_to_outline(mask, window, tolerance), mask_to_polygons(mask, window)
    assert outline.is_valid
    filled = polygons_to_mask(outline, window)
    assert (filled & mask).sum() / (filled | mask).sum() > 0.98
    assert outline.intersection(exact).area / outline.union(exact).area > 0.95
    if tolerance <= EXACT_TOLERANCE:
        assert np.array_equal(filled, mask)


@pytest.mark.parametrize("radius", [9, 20, 100])
def test_outline_of_a_disc_is_close_and_lean(radius):
    n = 2 * radius + 9
    mask = np.hypot(*(np.mgrid[:n, :n] + 0.5 - n / 2)) < radius
    outline, exact = mask_to_outline(mask), mask_to_polygons(mask)
    assert outline.intersection(exact).area / outline.union(exact).area > 0.98
    lean = mask_to_outline(mask, None, 0.5)
    count = shapely.get_num_coordinates
    assert count(outline) < 0.7 * count(exact)
    assert count(lean) <= count(outline)


def test_outline_keeps_holes_and_parts():
    mask = np.zeros((60, 90), bool)
    mask[5:50, 5:40] = True
    mask[20:30, 15:25] = False
    mask[10:30, 60:80] = True
    outline = mask_to_outline(mask)
    assert [len(p.interiors) for p in outline.geoms] == [1, 0]
    assert abs(outline.area - mask.sum()) < 5


def test_straight_edges_stay_where_they_are():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 5:35] = True
    assert mask_to_outline(mask).bounds == (5, 10, 35, 30)


def test_thin_stair_keeps_its_pixels_at_a_coarse_tolerance():
    mask = np.zeros((120, 121), bool)
    mask[np.arange(120), np.arange(120)] = True
    mask[np.arange(120), np.arange(120) + 1] = True
    window = window_of(mask)
    filled = polygons_to_mask(mask_to_outline(mask, window, 3.0), window)
    assert (filled & mask).sum() / (filled | mask).sum() > 0.98


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_noise_is_outlined_too(share):
    mask = np.random.default_rng(0).random((256, 256)) < share
    window = window_of(mask)
    outline = mask_to_outline(mask, window)
    assert outline.is_valid
    assert np.array_equal(polygons_to_mask(outline, window), mask)
