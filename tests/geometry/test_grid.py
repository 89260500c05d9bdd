"""The patch grid: what is inside and what is not, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.geometry.grid import PatchGrid

SIDES = st.floats(3.0, 900.0)
SIZES = st.integers(1, 5000)


@given(SIDES, SIDES, SIZES, SIZES)
def test_a_cell_belongs_to_the_grid_if_its_middle_lies_on_the_slide(sx, sy, width, height) -> None:
    grid = PatchGrid((sx, sy), (width, height))
    x, y = grid.middle(grid.columns - 1, grid.rows - 1)
    assert x < width or grid.columns == 1
    assert y < height or grid.rows == 1
    assert grid.middle(grid.columns, 0)[0] >= width * (1 - 1e-12)
    assert grid.middle(0, grid.rows)[1] >= height * (1 - 1e-12)
    assert grid.at(*grid.middle(grid.columns - 1, grid.rows - 1)) == (
        grid.columns - 1,
        grid.rows - 1,
    )
    assert grid.at(-0.1, 0.0) is None


@given(
    SIDES,
    SIDES,
    st.lists(st.tuples(st.floats(-200, 2200), st.floats(-200, 2200)), min_size=3, max_size=7),
)
def test_a_region_takes_the_cells_whose_middle_lies_inside(sx, sy, corners) -> None:
    grid = PatchGrid((max(sx, 40.0), max(sy, 40.0)), (2000, 1700))
    region = shapely.MultiPoint(corners).convex_hull
    found = {tuple(cell) for cell in grid.inside(region).tolist()}
    for column in range(grid.columns):
        for row in range(grid.rows):
            inside = region.contains(shapely.Point(grid.middle(column, row)))
            assert ((column, row) in found) == inside


def test_rows_come_one_after_the_other() -> None:
    grid = PatchGrid.of((1000, 1000), (0.5, 0.5), 50.0)
    assert grid.side == (100.0, 100.0)
    cells = grid.inside(shapely.box(100, 100, 300, 300))
    assert cells.tolist() == [[1, 1], [2, 1], [1, 2], [2, 2]]
    assert grid.inside(shapely.Polygon()).shape == (0, 2)
    assert grid.inside(shapely.box(-900, -900, -100, -100)).shape == (0, 2)


@given(st.lists(st.tuples(st.floats(0, 999), st.floats(0, 999)), min_size=1, max_size=5))
def test_a_line_passes_neighbouring_cells(points) -> None:
    grid = PatchGrid.of((1000, 1000), None, 100.0)
    cells = np.array(grid.along(points))
    ends = {grid.at(*points[0]), grid.at(*points[-1])}
    assert ends <= {tuple(cell) for cell in cells.tolist()}
    steps = {tuple(cell) for cell in cells.tolist()}
    # Each cell but a lone one touches another, be it at a corner.
    for column, row in steps:
        around = {(column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} - {(column, row)}
        assert len(steps) == 1 or around & steps


def test_no_grid_without_a_side() -> None:
    with pytest.raises(ValueError, match="is none"):
        PatchGrid((0.0, 1.0), (10, 10))
