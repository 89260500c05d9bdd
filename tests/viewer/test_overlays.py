"""Outlines of models side by side: each is drawn where it lies, whatever the others' size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_histosam.geometry.draw import outline_sides
from napari_histosam.session.comparison import Comparison, Entrant
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.layers import ENTRANTS, repeated
from napari_histosam.viewer.overlays import ComparisonOverlay

SLIDE = shapely.box(0, 0, 90_000, 60_000).difference(shapely.box(100.25, 200, 300, 400.5))
NUCLEUS = shapely.Point(1134.3, 2027.7).buffer(9.4)
PARTS = shapely.MultiPolygon([shapely.box(5, 6, 7.5, 8), shapely.box(50_000, 6, 50_001, 9)])


def drawn(sides: np.ndarray) -> shapely.geometry.base.BaseGeometry:
    """Return the polygons that lines enclose, in level-0 px, corner based."""
    lines = np.stack([sides[:, 0], sides.sum(1)], 1)[..., ::-1] + 0.5
    return shapely.get_geometry(shapely.polygonize(list(shapely.linestrings(lines))), 0)


def answers(**shapes: object) -> Comparison:
    made = [Entrant(name, SimpleNamespace(geometry=one)) for name, one in shapes.items()]
    return Comparison("1", 1, tuple(made))


@given(
    st.lists(st.tuples(st.floats(0, 5e4), st.floats(0, 5e4)), min_size=3, max_size=9, unique=True)
)
def test_sides_go_round_every_ring(at: list[tuple[float, float]]) -> None:
    hull = shapely.MultiPoint(at).convex_hull
    sides = outline_sides(hull)
    if hull.geom_type != "Polygon":
        assert len(sides) == 0
        return
    ring = shapely.get_coordinates(hull.exterior)
    np.testing.assert_allclose(sides[:, 0, ::-1] + 0.5, ring[:-1], atol=1e-9)
    np.testing.assert_allclose(sides.sum(1)[:, ::-1] + 0.5, ring[1:], atol=1e-9)


def test_a_nucleus_beside_a_mask_of_the_whole_slide_is_exact() -> None:
    viewer = ViewerModel()
    overlay = ComparisonOverlay(viewer, SlideFrame())
    overlay.show(None, 1.0)
    assert len(viewer.layers) == 0
    overlay.show(answers(a=NUCLEUS, b=SLIDE, c=PARTS, d=None), 40.0)
    (layer,) = viewer.layers
    counts = [len(outline_sides(one)) for one in (PARTS, SLIDE, NUCLEUS)]
    assert len(layer.data) == sum(counts)
    # The first model's lines come last, on top of the others.
    own = layer.data[-counts[-1] :]
    assert drawn(own).symmetric_difference(NUCLEUS).area < 1e-6
    colours = repeated(list(zip(reversed(ENTRANTS[:3]), counts, strict=True)))
    np.testing.assert_allclose(layer.edge_color, colours)
    assert layer.edge_width == 120.0
    assert layer.data[..., 0, 1].max() == 90_000 - 0.5

    overlay.hidden.add("b")
    overlay.show(answers(a=NUCLEUS, b=SLIDE), 0.5)
    np.testing.assert_array_equal(layer.data, own)
    np.testing.assert_allclose(layer.edge_color, repeated([(ENTRANTS[0], counts[-1])]))
    overlay.show(answers(a=None), 0.5)
    assert len(layer.data) == 0
    overlay.show(answers(a=NUCLEUS), 0.5)
    np.testing.assert_array_equal(layer.data, own)
