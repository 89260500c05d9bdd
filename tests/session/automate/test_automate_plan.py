"""The plan of tiles: it covers its region, once, on one grid of px."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.models.cards import ModelCard
from napari_histosam.session.automate import plan_tiles
from napari_histosam.slide import TissueMask, open_array


def card(window_px: int, mpp: float | None = None) -> ModelCard:
    return ModelCard("m", "m", "M", "-", (), window_px, mpp, finds="objects")


def slide_of(width: int, height: int, mpp: float | None = None):
    picture = np.broadcast_to(np.uint8(235), (height, width, 3))
    return open_array([picture], None if mpp is None else (mpp, mpp), "blank")


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.integers(150, 700),
    st.sampled_from([None, 0.25, 0.3, 0.5, 0.9]),
    st.tuples(st.integers(0, 2000), st.integers(0, 2000)),
)
def test_cores_cover_the_slide_once_and_lie_in_their_windows(width, height, window, mpp, shift):
    with slide_of(width, height, mpp and 0.4) as slide:
        plan = plan_tiles(slide, card(window, mpp), shift=shift)
        tiles = list(plan.tiles())
    cores = [shapely.box(*t.core) for t in tiles]
    everything = shapely.box(0, 0, width, height)
    assert sum(c.intersection(everything).area for c in cores) == pytest.approx(everything.area)
    assert shapely.union_all(cores).intersection(everything).area == pytest.approx(everything.area)
    for tile in tiles:
        left, top, right, bottom = tile.window.bounds
        assert left >= -1e-6
        assert top >= -1e-6
        x0, y0, x1, y1 = shapely.box(*tile.core).intersection(everything).bounds
        assert left <= x0 + 1e-6
        assert top <= y0 + 1e-6
        assert right >= x1 - 1e-6
        assert bottom >= y1 - 1e-6
        # Windows of all grids lie on one grid of px, so that all of them read the same values.
        corner = np.array([left, top]) / plan.scale
        assert np.abs(corner - np.round(corner)).max() < 1e-6


def test_numbers_stay_the_same_when_the_plan_is_made_again():
    with slide_of(2000, 1500) as slide:
        twice = [[t.number for t in plan_tiles(slide, card(256)).tiles()] for _ in range(2)]
    assert twice[0] == twice[1] == sorted(set(twice[0]))


def test_a_region_gets_only_the_tiles_that_it_meets():
    with slide_of(4000, 4000) as slide:
        region = shapely.Polygon([(0, 0), (2000, 0), (0, 2000)])
        plan = plan_tiles(slide, card(256), region)
        boxes = [shapely.box(*t.core) for t in plan.tiles()]
        assert all(b.intersects(region) for b in boxes)
        assert len(boxes) < 0.6 * plan.count[0] * plan.count[1]
        assert shapely.union_all(boxes).contains(region.buffer(-1))
        with pytest.raises(InputError, match="no area on the slide"):
            plan_tiles(slide, card(256), shapely.box(5000, 0, 6000, 10))


def test_glass_is_left_out():
    with slide_of(1000, 1000) as slide:
        plan = plan_tiles(slide, card(256))
        mask = np.zeros((10, 10), bool)
        mask[0, 0] = True
        tissue = TissueMask(mask, (100, 100))
        assert [t.number for t in plan.tiles(tissue)] == [0]
        assert list(plan.tiles(TissueMask(mask & False, (100, 100)))) == []
