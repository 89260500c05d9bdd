"""The guided way in a real window, on a slide of glands: from labels of patches to a map."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from qtpy.QtCore import Qt
from shapely import Point, STRtree
from shapely.geometry import shape

from napari_histosam.session.regions import RegionMap
from napari_histosam.viewer.automation import Where

PATIENCE_MS = 500_000
NEW = "New EP-SAM on histosam-small"


def mapped(hand) -> None:
    """Press Start in Automate and wait for the map."""
    automate = hand.dock.automate
    hand.press(automate.start)
    run = automate.automation
    hand.until(lambda: run.regions.map is not None)
    hand.qtbot.waitUntil(
        lambda: run.running is None and run.regions.working is None, timeout=PATIENCE_MS
    )
    hand.until(lambda: all(o.pyramid.idle for o in run.regions._overlays))
    assert "The map is complete" in automate.result.text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_patch_labels_to_heat_and_outlines(open_dock, shared_dir, tmp_path) -> None:
    derived = shared_dir / "data" / "slides" / "derived"
    slide = tmp_path / "rings.ome.tif"
    shutil.copyfile(derived / "rings_mosaic_shared.ome.tif", slide)
    hand = open_dock(slide)
    hand.show_tab("Learn")
    tab = hand.dock.learn
    hand.until(lambda: bool(tab.desk.bases))
    tab.plan.base.setCurrentIndex(tab.plan.base.findText(NEW))
    tab.plan.detail.setCurrentIndex(tab.plan.detail.findData(64))
    tab.plan.epochs.setValue(2)
    steps, guide = tab.steps, tab.guide
    work = hand.controller.patches

    # Which patches are painted, the glands in their middles decide.
    truth = work.grid
    found = json.loads((derived / "rings_mosaic_shared_gt.geojson").read_text())["features"]
    glands = STRtree([shape(one["geometry"]).buffer(0) for one in found])
    inside, outside = [], []
    for row in range(6):
        for column in range(truth.columns - 4):
            middle = Point(truth.middle(column, row))
            hit = len(glands.query(middle, predicate="intersects"))
            (inside if hit else outside).append((column, row))
    assert min(len(inside), len(outside)) >= 6
    for kind, cells in (("tumour", inside[:10]), ("normal", outside[:10])):
        hand.press(steps.patches.buttons[kind])
        for cell in cells:
            hand.click(*truth.middle(*cell))
    assert min(guide.counts) >= 6
    hand.key(Qt.Key_Escape)

    hand.press(steps.rows["classifier"].action)
    hand.until(lambda: steps.rows["classifier"].action.text() == "Pause")
    hand.qtbot.waitUntil(lambda: not guide.working, timeout=PATIENCE_MS)
    assert guide.course.reached == "classifier", guide.course.log.read_text()
    assert "The classifier is right about" in steps.rows["classifier"].text.text()

    hand.look(300, 300, 500, 500)
    hand.press(steps.rows["heat"].action)
    text = steps.rows["heat"].text
    hand.qtbot.waitUntil(
        lambda: "in view are taken" in text.text() and "to go" not in text.text(),
        timeout=PATIENCE_MS,
    )
    assert "Patch labels" not in hand.viewer.layers  # they would lie on top of each other
    warm = np.count_nonzero(hand.viewer.layers["Heat"].data)
    assert warm > 0
    steps.threshold.setValue(60)
    assert np.count_nonzero(hand.viewer.layers["Heat"].data) < warm

    # Over the slide it is a map like any other; here of what is in view, to be quick.
    hand.press(steps.whole)
    automate = hand.dock.automate
    hand.until(automate.isVisible)
    assert "Heat" not in hand.viewer.layers
    assert automate.heat.isChecked()
    assert automate.wish.where is Where.WHOLE
    automate.places[Where.VIEW].setChecked(True)
    mapped(hand)
    assert np.max(np.asarray(hand.viewer.layers["Probability: heat"].data[-1])) > 0
    automate.heat.setChecked(False)
    hand.show_tab("Learn")

    hand.press(steps.rows["outlines"].action)
    assert guide.course.patch_order.percentile == 60
    hand.qtbot.waitUntil(
        lambda: (
            "heat" in steps.rows["outlines"].text.text().lower()
            and "%" in steps.rows["outlines"].text.text()
        ),
        timeout=PATIENCE_MS,
    )
    hand.press(steps.rows["outlines"].action)  # Pause
    hand.qtbot.waitUntil(lambda: not guide.working, timeout=PATIENCE_MS)
    assert steps.rows["outlines"].action.text() == "Resume"
    hand.press(steps.rows["outlines"].action)
    hand.qtbot.waitUntil(lambda: guide.course.reached == "outlines", timeout=PATIENCE_MS)

    # The model that was taught maps what is in view.
    hand.press(steps.rows["predict"].action)
    hand.until(automate.isVisible)
    assert automate.model.currentData() == guide.model
    assert "takes no clicks or boxes" in automate.model_text.text()
    hand.look(300, 300, 420, 420)
    mapped(hand)
    layer = hand.viewer.layers["Probability: Tumour"]
    assert tuple(layer.contrast_limits) == (0, 1)
    # A decoder that has learned for moments may find nothing; what is shown is the map on disk.
    found = RegionMap(automate.automation.regions.map.folder)
    assert found.finished
    assert found.about["model"] == guide.model
    wide, high = found.shapes[0][::-1]
    shown = np.asarray(layer.data[0])
    assert np.array_equal(shown, found.read(0, 0, high, 0, wide)[0] / np.float32(255))
