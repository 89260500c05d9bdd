"""Two slides in one window, and one slide in two windows."""

from __future__ import annotations

import shutil

import pytest
import tifffile
from qtpy.QtCore import Qt

from napari_histosam.slide import open_slide

FIRST, SECOND = (1134.0, 2027.5), (1154.5, 2031.5)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


@pytest.fixture
def part(sample_slide_path, tmp_path):
    """Another slide: a part of the sample, from (1000, 1900) on."""
    with open_slide(sample_slide_path) as slide:
        pixels = slide.read_region(1000, 1900, 0, 400, 300)
    path = tmp_path / "part.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256))
    return path


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.look(*FIELD)
    return made


def test_the_list_switches_between_slides(hand, slide_copy, part):
    combo = hand.dock.slide_bar.slides
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    hand.click(*SECOND)
    hand.viewer.open(part, plugin="napari-histosam")
    hand.ready()
    # The new one is at work; what was in hand on the first is gone, what was kept is kept.
    assert combo.currentText() == "part.tif"
    assert hand.session.slide.name == "part.tif"
    assert combo.count() == 2
    names = [x.name for x in hand.viewer.layers]
    assert names.count("Objects") == 1
    assert "Clicks" not in names
    assert len(hand.session.store) == 0
    hand.look(100, 50, 200, 150)
    for x, y in (FIRST, SECOND):
        hand.click(x - 1000, y - 1900)
        hand.key(Qt.Key_N)
    assert len(hand.session.store) == 2

    combo.setCurrentIndex(combo.findText(slide_copy.name))
    hand.ready()
    assert hand.session.slide.name == slide_copy.name
    assert len(hand.session.store) == 1
    assert hand.dock.annotate.objects.model.rowCount() == 1
    assert hand.dock.annotate.objects.title.text() == "Objects · 1"
    hand.viewer.layers.remove("part.tif")
    hand.ready()
    assert hand.session.slide.name == slide_copy.name
    hand.look(*FIELD)
    hand.click(*SECOND)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 2
    hand.viewer.layers.remove(slide_copy.name)
    assert hand.controller is None
    assert combo.count() == 0


def test_removing_the_slide_at_work_goes_on_with_the_other(hand, slide_copy, part):
    hand.viewer.open(part, plugin="napari-histosam")
    hand.ready()
    hand.viewer.layers.remove("part.tif")
    hand.ready()
    assert hand.session.slide.name == slide_copy.name
    hand.look(*FIELD)
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1


def test_a_second_window_reads_only_until_the_first_is_closed(hand, open_dock, slide_copy):
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    other = open_dock(slide_copy)
    other.look(*FIELD)
    assert other.session.store.read_only
    bar = other.dock.slide_bar
    assert bar.read_only_row.isVisible()
    assert bar.read_only.text()
    assert len(other.session.store) == 1

    # It previews, and nothing that would change the objects is on offer.
    other.click(*SECOND)
    assert other.session.preview is not None
    box, table = other.dock.annotate.object, other.dock.annotate.objects
    assert not box.accept.isEnabled()
    assert not box.undo.isEnabled() or len(other.session.prompts)
    other.key(Qt.Key_N)
    assert len(other.session.store) == 1
    assert other.said == other.session.store.read_only_reason
    other.key(Qt.Key_Escape)
    other.key(Qt.Key_H)
    other.click(*FIRST)
    assert len(other.session.objects.selection) == 1
    for button in (table.refine, table.merge, table.cut, table.delete, box.fill, box.smooth):
        assert not button.isEnabled(), button.text()
    for key in (Qt.Key_Delete, Qt.Key_8):
        other.key(key)
        assert other.said == other.session.store.read_only_reason
    other.key(Qt.Key_Z, Qt.ControlModifier)
    other.dock.annotate.classes.add_class("Mine")
    assert "Mine" not in {c.name for c in other.session.store.classes()}
    other.show_tab("Exchange")
    assert not other.dock.exchange.import_button.isEnabled()
    assert other.dock.exchange.export_button.isEnabled()
    other.dock.tabs.setCurrentIndex(0)
    assert len(other.session.store) == 1

    other.press(bar.take_over)
    assert other.session.store.read_only
    hand.click(*SECOND)
    hand.key(Qt.Key_N)
    hand.dock.end()
    other.press(bar.take_over)
    assert not other.session.store.read_only
    assert not bar.read_only_row.isVisible()
    assert len(other.session.store) == 2
    other.key(Qt.Key_Q)
    other.click(1153.0, 1978.0)
    assert box.accept.isEnabled()
    other.key(Qt.Key_N)
    assert len(other.session.store) == 3


def test_a_slide_lands_in_the_window_that_opened_it(hand, open_dock, slide_copy, tmp_path):
    """The reader is told of no window; the slide must become sharp in whichever it lands."""
    behind, front = hand, open_dock()
    second = shutil.copy(slide_copy, tmp_path / "second.svs")
    front.viewer.window.activate()
    behind.viewer.open(second, plugin="napari-histosam")
    behind.ready()
    behind.look(*FIELD)
    pyramid = behind.controller.layer.metadata["histosam_pyramid"]
    behind.until(lambda: pyramid.idle)
    exact = behind.session.slide.read_region(1100, 1950, 0, 60, 60)
    shown = behind.controller.layer.data[0][1950:2010, 1100:1160]
    assert (shown == exact).all()
    assert not front.viewer.layers
