"""A review with a real window, mouse and keys: least certain first, one key for each answer."""

from __future__ import annotations

import pytest
import shapely
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_histosam.records import Provenance, SlideObject
from napari_histosam.viewer.tools import Tool

# Nuclei of the sample slide, level-0 px.
SPOTS = ((1134.0, 2027.5), (1154.5, 2031.5), (1153.0, 1978.0), (1128.0, 1997.0), (1180.0, 2000.0))


def found(n: int, **more) -> SlideObject:
    made = Provenance("automatic", model="other", score=0.1 * (n + 1))
    shape = shapely.Point(SPOTS[n]).buffer(9)
    return SlideObject(shape, "Tumor", f"object-{n}", provenance=made, **more)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.session.store.add([found(n) for n in (3, 1, 4, 0, 2)], label="Import 5")
    made.show_tab("Review")
    return made


def begin(hand) -> None:
    hand.press(hand.dock.review.start)
    hand.until(lambda: hand.controller.review.begun)
    hand.ready()


def test_five_objects_with_one_key_each(hand, open_dock, slide_copy) -> None:
    tab, store, walk = hand.dock.review, hand.session.store, hand.controller.review
    assert not tab.card.isVisible()
    assert "5 not reviewed" in tab.counts.text()
    begin(hand)

    # The lowest score first: shown, selected, and with its reason.
    assert tab.card.title() == "1 / 5"
    assert tab.card.reason.text() == "Low score 0.10"
    assert "Tumor · automatic" in tab.card.facts.text()
    assert hand.session.objects.selection == ("object-0",)
    left, top, right, bottom = hand.controller.view
    assert left < SPOTS[0][0] < right
    assert top < SPOTS[0][1] < bottom

    # Accept two: one key, then the button.
    hand.key(Qt.Key_N)
    assert store.get("object-0").review.state == "accepted"
    assert tab.card.title() == "2 / 5"
    hand.press(tab.card.accept)
    assert tab.card.title() == "3 / 5"

    # Reject one, and take that back.
    hand.key(Qt.Key_Delete)
    assert "object-2" not in store
    assert [r.object.id for r in store.rejected()] == ["object-2"]
    assert "1 rejected" in tab.counts.text()
    assert tab.card.title() == "4 / 5"
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert "object-2" in store
    assert tab.card.title() == "3 / 5"
    assert hand.session.objects.selection == ("object-2",)
    hand.key(Qt.Key_Delete)

    # Edit one: the model takes it, a click corrects it, N keeps it and goes on.
    assert walk.current.id == "object-3"
    before = store.get("object-3").geometry
    hand.key(Qt.Key_G)
    assert walk.editing
    assert "Shift+click takes away" in tab.card.hint.text()
    x, y = SPOTS[3]
    hand.click(x + 12, y)
    hand.key(Qt.Key_N)
    after = store.get("object-3")
    assert not after.geometry.equals(before)
    assert after.review.state == "corrected"
    assert len(store) == 4

    # Another class for the last one, then accept it.
    assert walk.current.id == "object-4"
    hand.key(Qt.Key_9)
    assert store.get("object-4").class_name == "Stroma"
    assert "Stroma" in tab.card.facts.text()
    assert store.get("object-4").review is None
    hand.key(Qt.Key_N)
    assert walk.current is None
    assert tab.card.title() == "5 / 5"
    assert tab.counts.text() == "3 accepted · 1 corrected · 1 rejected · 0 not reviewed"

    # All of it is there after a restart; undo goes on where it was.
    before = tab.counts.text()
    hand.dock.end()
    hand.viewer.close()
    again = open_dock(slide_copy)
    again.show_tab("Review")
    assert again.dock.review.counts.text() == before
    begin(again)
    assert again.dock.review.card.title() == "Nothing to review"
    again.key(Qt.Key_Z, Qt.ControlModifier)
    assert "1 not reviewed" in again.dock.review.counts.text()
    begin(again)
    assert again.dock.review.card.title() == "1 / 1"
    assert again.controller.review.current.id == "object-4"


def test_the_review_and_other_work_go_side_by_side(hand) -> None:
    store, walk, tab = hand.session.store, hand.controller.review, hand.dock.review
    begin(hand)

    # The keys mean the object only while the tab is in front.
    hand.show_tab("Annotate")
    hand.key(Qt.Key_N)
    assert store.review_counts()["accepted"] == 0
    assert "no mask to accept" in hand.said
    hand.key(Qt.Key_Escape)
    hand.key(Qt.Key_Delete)
    assert len(store) == 5
    hand.show_tab("Review")
    assert hand.session.objects.selection == (walk.current.id,)

    # An object that was missed is added, and the review goes on.
    hand.key(Qt.Key_Escape)  # nothing to forget, and the object stays in hand
    assert walk.in_hand
    x, y = SPOTS[0]
    hand.look(x - 60, y - 60, x + 60, y + 60)
    hand.click(x - 34, y + 3)
    assert "Another object or mask is in hand" in hand.dock.review.card.hint.text()
    assert not hand.dock.review.card.reject.isEnabled()
    hand.key(Qt.Key_N)
    assert len(store) == 6
    assert walk.in_hand
    assert walk.current.id == "object-0"
    # An edit that is given up leaves the object as it was.
    hand.press(hand.dock.review.card.edit)
    hand.key(Qt.Key_Escape)
    assert walk.in_hand
    assert store.get("object-0").review is None
    # The brush works on the object itself; it counts as corrected, and N goes on.
    hand.key(Qt.Key_K)
    hand.drag((x, y), (x + 6, y), (x + 12, y))
    assert store.get("object-0").review.state == "corrected"
    assert walk.current.id == "object-0"
    hand.key(Qt.Key_N)
    assert store.get("object-0").review.state == "corrected"
    assert walk.current.id == "object-1"
    # Later leaves it; back returns. The keys work in the dock as well.
    QTest.keyClick(hand.dock, Qt.Key_J)
    hand.ready()
    assert walk.current.id == "object-2"
    hand.press(hand.dock.review.card.back)
    assert walk.current.id == "object-1"
    # Pan away to another object, and come back.
    hand.key(Qt.Key_H)
    assert hand.controller.tool is Tool.PAN
    hand.session.objects.select(["object-4"])
    assert not walk.in_hand
    hand.press(hand.dock.review.card.show_it)
    assert walk.in_hand

    # What is gone through, and the class, by mouse.
    store.add([SlideObject(shapely.box(1100, 1950, 1110, 1960), "Gland", "drawn")])
    store.add([SlideObject(shapely.box(1000, 1900, 1300, 2100), "Region*", "region")])
    walk.end()
    begin(hand)
    assert tab.card.title() == "1 / 6"  # without the region and the one that is corrected
    tab.sources.setCurrentText("manual")
    tab.sources.activated.emit(tab.sources.currentIndex())
    assert tab.card.title() == "1 / 1"
    assert tab.card.reason.text() == "Nothing unusual about this one."
    tab.card.classes.setCurrentText("unclassified")
    tab.card.classes.activated.emit(tab.card.classes.currentIndex())
    assert store.get("drawn").class_name is None
    tab.sources.setCurrentIndex(0)
    tab.classes.setCurrentText("Gland")
    tab.classes.activated.emit(tab.classes.currentIndex())
    assert tab.card.title() == "1 / 1"
    tab.classes.setCurrentText("Necrosis")
    tab.classes.activated.emit(tab.classes.currentIndex())
    assert tab.card.title() == "Nothing to review"
    assert not tab.card.buttons.isVisible()
