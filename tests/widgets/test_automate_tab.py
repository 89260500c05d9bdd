"""Automatic runs in a real window: view, drawn region, pause, cancel, review, and undo."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from qtpy.QtCore import Qt

from napari_histosam.errors import InputError
from napari_histosam.models.classical.model import ClassicalModel
from napari_histosam.records import SlideObject
from napari_histosam.viewer.automation import Where
from napari_histosam.viewer.tools import Tool

FIELD = (1185.0, 1995.0, 1245.0, 2055.0)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.show_tab("Automate")
    made.look(*FIELD)
    return made


@pytest.fixture
def slow_tiles(monkeypatch):
    """Have every tile take so long that a run is still under way when a busy machine looks."""
    find = ClassicalModel.find

    def slowly(self, image):
        time.sleep(0.2)
        return find(self, image)

    monkeypatch.setattr(ClassicalModel, "find", slowly)


def review_order(walk) -> list[str]:
    ids = []
    while walk.current is not None and len(ids) < 6:
        ids.append(walk.current.id)
        walk.later()
    for _ in ids:
        walk.back()
    return ids


def finish(hand) -> None:
    hand.until(lambda: hand.dock.automate.automation.running is None)
    hand.ready()


def test_what_is_in_view_then_its_review_and_undo(hand) -> None:
    tab, store = hand.dock.automate, hand.session.store
    titles = [hand.dock.tabs.tabText(i) for i in range(hand.dock.tabs.count())]
    assert titles == ["Annotate", "Automate", "Review", "Learn", "Exchange"]
    offered = [tab.model.itemData(i) for i in range(tab.model.count())]
    assert sorted(offered) == ["classical", "des-sam", "ep-sam", "sam-lung"]
    assert offered[0] == "classical"
    assert "histosam-small (Annotate tab) needs prompts" in tab.model_text.text()
    before = hand.canvas_pixels().astype(int)
    hand.press(tab.start)
    finish(hand)
    count = len(store)
    assert count > 20
    assert tab.result.text() == hand.said
    assert tab.result.text().startswith(f"{count} objects found")
    view = shapely.box(*hand.controller.view)
    for one in store.iterate():
        assert view.contains(shapely.box(*one.geometry.bounds).centroid)
        assert (one.class_name, one.provenance.source) == ("Nucleus", "automatic")
    # Objects are drawn when their tiles have been, which a busy machine does a little later.
    hand.until(lambda: (abs(hand.canvas_pixels().astype(int) - before).max(-1) > 40).mean() > 0.005)

    # The same again adds nothing; a stricter score neither.
    tab.least.setValue(0.2)
    hand.press(tab.start)
    finish(hand)
    assert len(store) == count
    assert "were there already" in tab.result.text()
    tab.least.setValue(0.0)

    # The review strip: this run's objects only, least certain first, one key each.
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(store) == 0
    hand.press(tab.start)
    finish(hand)
    mine = store.add([SlideObject(shapely.box(1200, 2000, 1210, 2010))])
    hand.press(tab.review)
    review, walk = hand.dock.review, hand.controller.review
    hand.until(lambda: walk.begun)
    hand.ready()
    assert hand.dock.tabs.tabText(hand.dock.tabs.currentIndex()) == "Review"
    assert review.of_run.isVisible()
    assert len(walk) == count
    found = [o for o in store.iterate() if o.provenance.score is not None]
    least = min(found, key=lambda o: o.provenance.score)
    assert least.id in review_order(walk)[:6]  # beside it, the oddest by size, shape and look
    hand.key(Qt.Key_N)
    assert sum(o.review is not None for o in store.iterate()) == 1
    review.of_run.setChecked(False)
    assert len(walk) == count + 1  # the list as it was sorted, with what was drawn
    store.delete(mine)


def test_a_drawn_region(hand) -> None:
    tab, store, controller = hand.dock.automate, hand.session.store, hand.controller
    tab.places[Where.REGION].setChecked(True)
    assert not tab.start.isEnabled()
    assert "draw a line around the region" in tab.trouble.text()
    controller.set_tool(Tool.PAN)
    hand.press(tab.draw)
    assert controller.tool is Tool.REGION
    hand.click(1200, 2000)
    assert "Keep the button down" in hand.said
    corners = [(1180, 1980), (1260, 1985), (1250, 2070), (1170, 2060), (1180, 1980)]
    line = shapely.LineString(corners)
    hand.drag(*(line.interpolate(at, normalized=True).coords[0] for at in np.linspace(0, 0.98, 40)))
    assert controller.tool is Tool.PAN
    assert controller.region.area == pytest.approx(80 * 80, rel=0.15)
    assert tab.start.isEnabled()
    hand.press(tab.start)
    finish(hand)
    middles = [shapely.box(*o.geometry.bounds).centroid for o in store.iterate()]
    assert middles
    assert all(controller.region.contains(at) for at in middles)
    hand.press(tab.clear)
    assert controller.region is None
    assert not tab.start.isEnabled()


def test_pause_cancel_and_going_on(hand) -> None:
    tab, store = hand.dock.automate, hand.session.store
    tab.places[Where.WHOLE].setChecked(True)
    of = tab.automation
    hand.press(tab.start)
    hand.until(lambda: "Tile" in tab.progress_text.text())
    with pytest.raises(InputError, match="under way"):
        of.start(tab.wish)
    hand.press(tab.hold)
    hand.until(lambda: tab.progress_text.text() == "Paused")
    assert tab.hold.text() == "Go on"
    assert hand.dock.status.running.isVisible()
    held = len(store)
    hand.qtbot.wait(300)
    assert len(store) == held
    hand.press(tab.hold)
    hand.press(tab.cancel)
    finish(hand)
    assert of.outcome is not None
    assert not of.outcome.finished
    assert "go on" in tab.result.text()
    kept = len(store)
    hand.press(tab.start)
    hand.until(lambda: len(store) > kept)
    hand.press(tab.cancel)
    finish(hand)
    assert of.outcome.resumed
    assert of.outcome.objects == len(store)
    assert store.undo_label == "Find with classical"


@pytest.mark.slow  # on a busy machine the click can take longer than tests wait
def test_a_click_is_answered_while_a_run_waits(hand) -> None:
    tab = hand.dock.automate
    tab.places[Where.WHOLE].setChecked(True)
    hand.press(tab.start)
    hand.press(tab.hold)
    hand.until(lambda: tab.progress_text.text() == "Paused")
    hand.click(1200, 2010)
    assert hand.session.preview is not None
    hand.session.reject()
    hand.press(tab.cancel)
    finish(hand)


def test_closing_the_slide_ends_a_run(hand, slow_tiles) -> None:
    tab = hand.dock.automate
    tab.places[Where.WHOLE].setChecked(True)
    hand.press(tab.start)
    hand.until(lambda: "Tile" in tab.progress_text.text())
    hand.viewer.layers.remove(hand.controller.layer)
    hand.until(lambda: hand.controller is None)
    hand.until(lambda: not hand.dock.status.running.isVisible())
    assert not tab.isEnabled()
    assert tab.automation.running is None
