"""Patch labels without a window: thousands, a store that only reads, a scale that comes late."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import shapely
from napari.components import ViewerModel
from PIL import Image

from napari_histosam.geometry.grid import PatchGrid
from napari_histosam.records import PatchLabel
from napari_histosam.store import ObjectStore, PatchBook
from napari_histosam.store.places import beside
from napari_histosam.viewer.workbench import Workbench


@pytest.fixture
def work_on():
    """Open a slide without a window; return its workbench and what it said."""
    opened = []

    def open_it(path):
        bench = Workbench(ViewerModel())
        said = []
        bench.said.connect(said.append)
        bench.open(path)
        opened.append(bench)
        return bench, said

    yield open_it
    for bench in opened:
        bench.close()


@pytest.fixture
def slide(sample_slide_path, tmp_path):
    return shutil.copy(sample_slide_path, tmp_path / sample_slide_path.name)


def test_thousands_of_labels_are_one_small_picture(work_on, slide) -> None:
    bench, _ = work_on(slide)
    controller = bench.controller
    work, viewer = controller.patches, bench.viewer
    size = controller.session.slide.width, controller.session.slide.height
    grid = PatchGrid.of(size, (0.499, 0.499), 8.0)
    PatchBook(controller.session.store).put(
        PatchLabel(*grid.box(column, row), ("tumour", "normal")[(column + row) % 2])
        for column in range(grid.columns)
        for row in range(grid.rows)
    )
    count = grid.columns * grid.rows
    assert count > 20_000
    assert work.others == count
    work.set_side(8.0)
    work.show(True)
    cells = viewer.layers["Patch labels"].data
    assert cells.shape == (grid.rows, grid.columns)
    assert [cells[0, 0], cells[0, 1], cells[1, 0]] == [1, 2, 2]
    # No lines where they would hide the tissue; elsewhere those around the view only.
    viewer.scene.camera.zoom = 0.1
    assert len(viewer.layers["Patch grid"].data) == 0
    controller.look_at(400, 400, 440, 8.0)
    lines = np.asarray(viewer.layers["Patch grid"].data)
    left, top, right, bottom = controller.view
    assert 4 < len(lines) < 8 * (right - left) / grid.side[0]
    assert lines[:, 0, 1].min() > left - (right - left)
    assert lines[:, 0, 0].min() > top - (bottom - top)
    # A pixel lies where its cell does.
    layer = viewer.layers["Patch labels"]
    x, y = grid.middle(7, 3)
    at = layer.world_to_data(controller.viewport.to_world(x, y))
    assert np.allclose(at, (3, 7), atol=1e-6)
    assert work.count.tumour + work.count.normal == count
    work.show(False)
    assert "Patch labels" not in viewer.layers


def test_a_store_that_only_reads_says_why(work_on, slide) -> None:
    with ObjectStore.open(beside(slide)) as other:
        bench, said = work_on(slide)
        work = bench.controller.patches
        work.set_side(64.0)
        assert work.side == 64.0
        bench.controller.set_region(shapely.box(0, 0, 900, 900))
        work.label_region("tumour")
        assert "open in another window" in said[-1]
        assert PatchBook(other).all() == []


def test_the_size_is_kept_with_the_slide(work_on, slide) -> None:
    bench, _ = work_on(slide)
    bench.controller.patches.set_side(96.0)
    bench.close()
    again, _ = work_on(slide)
    assert again.controller.patches.side == 96.0
    assert again.controller.patches.unit == "µm"


def test_patches_stay_as_large_when_the_scale_comes(work_on, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    bench, said = work_on(tmp_path / "plain.png")
    work = bench.controller.patches
    assert (work.side, work.unit) == (512.0, "px")
    work.set_side(100.0)
    work.label([(1, 2)], "tumour")
    work.show(True)
    bench.set_mpp(0.25, 0.25)
    assert (work.side, work.unit) == (25.0, "µm")
    assert work.count.tumour == 1
    assert bench.viewer.layers["Patch labels"].data[2, 1] == 1
    work.label_region("tumour")
    assert "Draw a line around a region first" in said[-1]
