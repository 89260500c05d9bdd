"""Polygon edits always end in valid polygons, or in None."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from napari_histosam.errors import InputError
from napari_histosam.geometry import polygons

SQUARE = box(0, 0, 10, 10)
coordinates = st.floats(-50, 50).map(lambda v: round(v, 1))
paths = st.lists(st.tuples(coordinates, coordinates), max_size=12)


def sound(geometry):
    return geometry is None or (
        geometry.is_valid
        and not geometry.is_empty
        and geometry.geom_type in ("Polygon", "MultiPolygon")
    )


@settings(max_examples=200, deadline=None)
@given(paths, paths, st.floats(0.5, 20), st.booleans())
def test_any_drawing_gives_valid_polygons(a, b, radius, erase):
    drawn, stroke = polygons.from_points(a or np.empty((0, 2))), polygons.brush_stroke(b, radius)
    results = [
        drawn,
        stroke,
        polygons.apply_brush(drawn, stroke, erase),
        polygons.difference(drawn, stroke),
        polygons.intersection(drawn, stroke),
        polygons.union([drawn, stroke, None]),
        polygons.smooth(drawn, radius),
        polygons.simplify(drawn, radius),
        polygons.fill_holes(drawn, radius),
        *polygons.split(drawn, b),
    ]
    assert all(sound(result) for result in results)


@settings(max_examples=500, deadline=None)
@given(paths, paths)
def test_split_loses_no_area(a, line):
    drawn = polygons.from_points(a)
    pieces = polygons.split(drawn, line)
    total = sum(piece.area for piece in pieces)
    assert total == pytest.approx(0 if drawn is None else drawn.area, rel=1e-6, abs=1e-3)


def test_bow_tie_becomes_two_triangles():
    tie = polygons.from_points([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert isinstance(tie, MultiPolygon)
    assert tie.area == pytest.approx(50)


@pytest.mark.parametrize(
    "points", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1)] * 5, [(0, 0), (1, 1), (2, 2)]]
)
def test_too_few_vertices_are_nothing(points):
    assert polygons.from_points(points) is None


def test_not_a_number_among_drawn_points_is_left_out_but_in_a_shape_refused():
    assert polygons.from_points([(0, 0), (np.nan, 1), (4, 0), (4, 4)]).area == 8
    assert polygons.brush_stroke([(np.nan, 0), (5, 5)], 2).contains(Point(5, 5))
    assert polygons.brush_stroke([(np.nan, 0)], 2) is None
    with pytest.raises(InputError, match="not a number"):
        polygons.clean(Polygon([(0, 0), (np.inf, 1), (4, 0)]))


def test_clean_flattens_collections_and_drops_lines():
    mixed = GeometryCollection([SQUARE, LineString([(0, 0), (99, 99)]), box(5, 5, 15, 15)])
    result = polygons.clean(mixed)
    assert sound(result)
    assert result.area == 175
    nested = GeometryCollection([GeometryCollection([Point(0, 0), MultiPolygon([SQUARE])])])
    assert polygons.clean(nested).equals(SQUARE)
    assert polygons.clean(LineString([(0, 0), (1, 1)])) is None
    assert polygons.clean(Polygon()) is None
    assert polygons.clean(None) is None


def test_clean_orients_shells():
    clockwise = Polygon(list(SQUARE.exterior.coords)[::-1])
    assert polygons.clean(clockwise).exterior.is_ccw


def test_split_in_two_and_not_through():
    pieces = polygons.split(SQUARE, [(3, -5), (3, 15)])
    assert [p.area for p in pieces] == [70, 30]
    assert polygons.split(SQUARE, [(3, -5), (3, 5)])[0].equals(SQUARE)
    assert polygons.split(SQUARE, [(3, 3)])[0].equals(SQUARE)
    assert polygons.split(None, [(0, 0), (1, 1)]) == []


def test_split_keeps_holes_and_untouched_parts():
    ring = SQUARE.difference(box(4, 4, 6, 6))
    both = MultiPolygon([ring, box(20, 0, 21, 1)])
    pieces = polygons.split(both, [(7, -1), (7, 11)])
    assert len(pieces) == 2
    assert sum(p.area for p in pieces) == both.area
    assert pieces[0].area == 70 - 4 + 1


def test_fill_holes_by_area():
    holed = SQUARE.difference(box(1, 1, 2, 2)).difference(box(5, 5, 8, 8))
    assert polygons.fill_holes(holed, 1.0).area == 91
    assert polygons.fill_holes(holed).area == 100


def test_brush_adds_and_erases():
    dot = polygons.brush_stroke([(0, 5)], 2)
    assert dot.area == pytest.approx(np.pi * 4, rel=0.01)
    assert polygons.apply_brush(SQUARE, dot).area > 100
    assert polygons.apply_brush(SQUARE, dot, erase=True).area < 100
    assert polygons.apply_brush(None, dot).equals(dot)
    assert polygons.apply_brush(SQUARE, box(-1, -1, 11, 11), erase=True) is None
    assert polygons.apply_brush(SQUARE, None).equals(SQUARE)
    assert polygons.brush_stroke([(0, 0), (5, 0)], 0) is None


def test_erasing_across_makes_two_parts_and_inside_a_hole():
    cut = polygons.apply_brush(SQUARE, polygons.brush_stroke([(5, -5), (5, 15)], 1), erase=True)
    assert isinstance(cut, MultiPolygon)
    hole = polygons.apply_brush(SQUARE, polygons.brush_stroke([(5, 5)], 1), erase=True)
    assert len(hole.interiors) == 1


def test_smooth_keeps_thin_things_and_rounds_corners():
    thin = box(0, 0, 100, 1)
    assert polygons.smooth(thin, 5).equals(thin)
    rounded = polygons.smooth(box(0, 0, 100, 100), 10)
    assert 9700 < rounded.area < 10000


def test_simplify_keeps_the_hole():
    disc = Point(0, 0).buffer(50).difference(Point(0, 0).buffer(20))
    lean = polygons.simplify(disc, 1.0)
    assert len(lean.interiors) == 1
    assert shapely.get_num_coordinates(lean) < shapely.get_num_coordinates(disc)


def test_physical_sizes_use_both_mpp():
    assert polygons.area_um2(SQUARE, (0.25, 0.5)) == 12.5
    assert polygons.perimeter_um(SQUARE, (0.25, 0.5)) == 15.0
