"""A map of regions in a real window: it fills while the run goes on, outlines follow the slider."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_histosam.geometry.scan import fill
from napari_histosam.session.regions import RegionMap
from napari_histosam.slide import open_slide
from napari_histosam.viewer.automation import Where
from region_tints import Tinter, landscape, offer


@pytest.fixture
def model(monkeypatch):
    made = Tinter(classes=("Tumour",))
    made.hook = lambda _: time.sleep(0.05)
    offer(monkeypatch, made)
    return made


@pytest.fixture
def hand(open_dock, model, tmp_path):
    Image.fromarray(landscape(1100, 800)).save(tmp_path / "land.png")
    with open_slide(tmp_path / "land.png") as slide:
        slide.set_mpp(1.0)
    made = open_dock()
    made.dock.workbench.open(tmp_path / "land.png")
    made.ready()
    made.show_tab("Automate")
    tab = made.dock.automate
    tab.model.setCurrentIndex(tab.model.findData("tinter"))
    tab.model.activated.emit(tab.model.currentIndex())
    return made


def finish(hand) -> None:
    of = hand.dock.automate.automation
    hand.until(lambda: of.running is None and of.regions.working is None)
    hand.until(lambda: all(o.pyramid.idle for o in of.regions._overlays))
    hand.ready()


def slide_to(hand, value: int) -> None:
    """Drag the handle of the threshold with the mouse."""
    slider = hand.dock.automate.regions.threshold
    hand.until(slider.isVisible)

    def at(v):
        span = slider.maximum() - slider.minimum()
        inner = slider.width() - 14
        return QPoint(7 + round(inner * (v - slider.minimum()) / span), slider.height() // 2)

    QTest.mousePress(slider, Qt.LeftButton, Qt.NoModifier, at(slider.value()))
    QTest.mouseMove(slider, at((value + slider.value()) / 2))
    QTest.mouseMove(slider, at(value))
    QTest.mouseRelease(slider, Qt.LeftButton, Qt.NoModifier, at(value))


def test_map_slider_and_objects(hand, model, tmp_path) -> None:
    tab, store = hand.dock.automate, hand.session.store
    of, box = tab.automation, tab.regions
    assert "takes no clicks or boxes" in tab.model_text.text()
    assert not tab.least.isVisible()
    assert not box.isVisible()
    tab.places[Where.WHOLE].setChecked(True)
    hand.press(tab.start)
    hand.until(lambda: of.regions.map is not None)
    assert of.running is not None  # the map is there before the run has ended
    hand.press(tab.hold)
    hand.until(lambda: tab.progress_text.text() == "Paused")
    seen = model.seen
    hand.press(tab.hold)
    hand.press(tab.cancel)
    finish(hand)
    assert "go on" in tab.result.text()
    hand.press(tab.start)
    finish(hand)
    assert model.seen == of.outcome.tiles > seen
    assert of.outcome.resumed

    layer = hand.viewer.layers["Probability: Tumour"]
    outline = hand.viewer.layers["Areas to be"]
    assert tuple(layer.contrast_limits) == (0, 1)
    assert tuple(layer.scale) == (1.0, 1.0)
    assert str(layer.units[-1]) == "micrometer"
    finest = np.asarray(layer.data[0])
    found = RegionMap(of.regions.map.folder)
    assert np.array_equal(finest, found.read(0, 0, 800, 0, 1100)[0] / np.float32(255))
    before = int(np.count_nonzero(np.asarray(outline.data[0])))
    hand.until(lambda: "Tumour about" in box.shares.text())
    told = box.shares.text()

    slide_to(hand, 80)
    finish(hand)
    assert of.regions.settings.threshold == pytest.approx(0.8, abs=0.05)
    assert box.value.text() == f"{of.regions.settings.threshold:.2f}"
    strict = np.asarray(outline.data[0]) > 0
    assert 0 < np.count_nonzero(strict) < before
    hand.until(lambda: box.shares.text() != told)

    hand.press(box.make)
    finish(hand)
    many = len(store)
    assert many > 0
    assert f"{many:,} object" in hand.said
    drawn = np.zeros(strict.shape, bool)
    objects = list(store.iterate())
    assert {(o.class_name, o.provenance.source) for o in objects} == {("Tumour", "automatic")}
    fill(drawn, [o.geometry for o in objects], [True] * many)
    assert np.count_nonzero(drawn ^ strict) < 0.01 * np.count_nonzero(strict)
    assert tab.review.isVisible()
    # Made anew with other settings, they take the place of the first ones.
    slide_to(hand, 50)
    finish(hand)
    hand.press(box.make)
    finish(hand)
    area = sum(o.geometry.area for o in store.iterate())
    assert area > sum(o.geometry.area for o in objects)
    assert not {o.id for o in store.iterate()} & {o.id for o in objects}

    box.save(tmp_path / "kept.ome.zarr")
    with open_slide(tmp_path / "kept.ome.zarr") as image:
        assert (image.width, image.height, image.mpp) == (1100, 800, (1.0, 1.0))

    hand.viewer.layers.remove(hand.controller.layer)
    hand.until(lambda: hand.controller is None)
    assert not hand.viewer.layers
    assert not box.isVisible()


def test_what_is_in_view_only(hand) -> None:
    tab = hand.dock.automate
    hand.look(400, 300, 460, 360)
    hand.press(tab.start)
    finish(hand)
    left, top, right, bottom = (int(v) for v in hand.controller.view)
    shown = np.asarray(hand.viewer.layers["Probability: Tumour"].data[0]) > 0
    assert shown[top : bottom + 1, left : right + 1].any()
    shown[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2] = False
    assert not shown.any()
