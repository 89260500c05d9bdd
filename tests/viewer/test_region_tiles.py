"""Tiles of a map for display: what is on disk, and what would become areas."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_histosam.session.regions import (
    AreaSettings,
    RegionMap,
    RegionRequest,
    areas,
    map_regions,
    plan_regions,
)
from napari_histosam.slide import open_array
from napari_histosam.viewer.region_tiles import TILE, AreaTiles, ProbabilityTiles, touched
from region_tints import Tinter, landscape


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> RegionMap:
    folder = tmp_path_factory.mktemp("tiles") / "m"
    with open_array([landscape(1100, 700)], (1.0, 1.0), "land") as slide:
        model = Tinter()
        plan = plan_regions(slide, model.card, shapely.box(0, 0, 1100, 600))
        map_regions(slide, model, RegionRequest(plan), folder)
    return RegionMap(folder)


def together(tiles, level=0) -> np.ndarray:
    high, wide = tiles.shapes[level]
    rows = range(-(-high // TILE))
    columns = range(-(-wide // TILE))
    return np.block([[tiles.read_tile(level, r, c) for c in columns] for r in rows])


def test_probabilities_end_with_the_region(found):
    shown = together(ProbabilityTiles(found, 0))
    assert shown.dtype == np.float32
    assert shown.shape == (700, 1100)
    assert np.array_equal(shown[:600], found.read(0, 0, 600, 0, 1100)[0] / np.float32(255))
    assert not shown[600:].any()


@pytest.mark.parametrize("smooth", [None, 11.0])
def test_what_is_outlined_becomes_areas(found, smooth):
    settings = AreaSettings(0.5, smooth, 500.0)
    shown = together(AreaTiles(found, settings))
    made = areas(found, settings)
    sizes = [sum(a.pixels for a in made.areas if a.class_name == name) for name in found.classes]
    counts = [int(np.count_nonzero(shown == kind + 1)) for kind in range(2)]
    assert counts == pytest.approx(sizes, rel=0.01)
    assert together(AreaTiles(found, settings), 1).shape == (350, 550)


def test_touched_tiles_cover_a_box_at_every_level():
    shapes = [(1200, 1500), (600, 750)]
    assert touched(shapes, (0, 0, 10, 10)) == [(0, 0, 0), (1, 0, 0)]
    assert set(touched(shapes, (500, 500, 530, 510))) == {(0, 0, 0), (0, 0, 1), (1, 0, 0)}
    assert (0, 1, 0) in touched(shapes, (0, 500, 10, 510), reach=8)
    assert len(touched(shapes, (0, 0, 1500, 1200))) == 9 + 4
