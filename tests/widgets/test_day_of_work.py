"""A day's work on one slide, with a real window, mouse and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import shapely
from qtpy.QtCore import Qt

from napari_histosam.exchange import read
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.viewer.tools import Tool

if TYPE_CHECKING:
    from pathlib import Path

# Nuclei of the sample slide, level-0 px.
FIRST, SECOND, THIRD = (1134.0, 2027.5), (1154.5, 2031.5), (1153.0, 1978.0)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.look(*FIELD)
    return made


def outlines(session) -> dict[str, str]:
    return {o.id: o.geometry.wkt for o in session.store.iterate()}


def test_from_the_first_click_to_qupath_and_back(open_dock, slide_copy, tmp_path):
    hand = open_dock(slide_copy)
    hand.look(*FIELD)
    session, store = hand.session, hand.session.store
    box = hand.dock.annotate.object

    # A click, a negative click, accept in the first class.
    hand.click(*FIRST)
    assert session.preview.objects["1"].geometry.contains(shapely.Point(*FIRST))
    assert "1+" in box.facts.text()
    hand.click(FIRST[0] + 14, FIRST[1] - 12, shift=True)
    assert [p.role for p in session.prompts.all()] == ["positive", "negative"]
    assert "1\N{MINUS SIGN}" in box.facts.text()
    hand.key(Qt.Key_8)
    hand.key(Qt.Key_N)
    assert [o.class_name for o in store.iterate()] == ["Tumor"]

    # A box by dragging, accept with the button; a third with Enter and another class.
    hand.drag((SECOND[0] - 11, SECOND[1] - 10), SECOND, (SECOND[0] + 11, SECOND[1] + 10))
    assert session.prompts.all()[0].role == "box"
    hand.press(box.accept)
    hand.key(Qt.Key_9)
    hand.click(*THIRD)
    hand.key(Qt.Key_Return)
    classes = [o.class_name for o in store.iterate()]
    assert classes == ["Tumor", "Tumor", "Stroma"]
    three = outlines(session)

    # Undo, redo.
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(store) == 2
    hand.key(Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert outlines(session) == three

    # Select an object in the view and paint on it.
    hand.key(Qt.Key_H)
    hand.click(*FIRST)
    (chosen,) = session.objects.selection
    before = store.get(chosen).geometry
    hand.key(Qt.Key_K)
    assert hand.controller.tool is Tool.BRUSH
    hand.drag(FIRST, (FIRST[0] - 8, FIRST[1]), (FIRST[0] - 16, FIRST[1]))
    after = store.get(chosen).geometry
    assert after.area > before.area
    assert after.buffer(1e-6).contains(before)
    hand.drag((FIRST[0] - 20, FIRST[1]), (FIRST[0] - 14, FIRST[1]), shift=True)
    assert store.get(chosen).geometry.area < after.area

    # The table shows it all.
    table = hand.dock.annotate.objects.model
    shown = {table.index(r, 1).data() for r in range(table.rowCount())}
    assert table.rowCount() == 3
    assert shown == {"Tumor", "Stroma"}

    # Export from the Exchange tab; the file reads back equal.
    target = tmp_path / "out.geojson"
    hand.dock.exchange.export_to(target)
    hand.until(target.exists)
    hand.until(lambda: "3 objects written" in hand.dock.status.text.text())
    back = {o.id: o for o in read(target).objects}
    kept = {o.id: o for o in store.iterate()}
    assert back.keys() == kept.keys()
    for key, item in kept.items():
        union = item.geometry.union(back[key].geometry).area
        assert item.geometry.intersection(back[key].geometry).area / union > 0.999
        assert back[key].class_name == item.class_name
        assert back[key].provenance.model == session.card.name == DEFAULT_MODEL

    # Close, reopen: all there, and undo goes on where it was.
    state, label = outlines(session), store.undo_label
    hand.dock.end()
    hand.viewer.close()
    again = open_dock(slide_copy)
    assert outlines(again.session) == state
    assert again.session.store.undo_label == label
    again.look(*FIELD)
    again.key(Qt.Key_Z, Qt.ControlModifier)
    assert again.session.store.get(chosen).geometry.equals(after)


def test_escape_forgets_and_ctrl_z_takes_the_last_prompt_back(hand):
    hand.click(*FIRST)
    hand.click(*SECOND)
    assert len(hand.session.prompts) == 2
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(hand.session.prompts) == 1
    hand.key(Qt.Key_Escape)
    assert hand.session.preview is None
    assert len(hand.session.store) == 0
    assert not hand.dock.annotate.object.accept.isEnabled()


def test_j_shows_the_models_other_masks(hand):
    hand.click(*THIRD)
    shown = [hand.session.preview.objects["1"].geometry.area]
    count = len(hand.session.preview.objects["1"].candidates.scores)
    for _ in range(count):
        hand.key(Qt.Key_J)
        shown.append(hand.session.preview.objects["1"].geometry.area)
    assert shown[0] == shown[-1]
    assert len(set(shown)) > 1
    assert f"of {count}" in hand.dock.annotate.object.facts.text()


def test_several_objects_with_g_are_one_step(hand):
    hand.click(*FIRST)
    hand.key(Qt.Key_G)
    hand.click(*SECOND)
    hand.key(Qt.Key_G)
    hand.click(*THIRD)
    assert len(hand.session.preview.objects) == 3
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 3
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(hand.session.store) == 0


def test_scribble_and_brush_on_the_preview(hand):
    hand.key(Qt.Key_U)
    hand.drag((FIRST[0] - 4, FIRST[1]), FIRST, (FIRST[0] + 4, FIRST[1] + 2))
    assert session_prompt(hand).geometry.geom_type == "LineString"
    before = hand.session.preview.objects["1"].geometry.area
    hand.key(Qt.Key_K)
    hand.drag(FIRST, (FIRST[0] + 18, FIRST[1]))
    shown = hand.session.preview.objects["1"]
    assert shown.edited
    assert shown.geometry.area > before
    hand.key(Qt.Key_N)
    (kept,) = hand.session.store.iterate()
    assert kept.geometry.area == pytest.approx(shown.geometry.area)
    # The model's own answer is kept beside the corrected one.
    assert kept.provenance.first_mask.area == pytest.approx(before)


def session_prompt(hand):
    (prompt,) = hand.session.prompts.all()
    return prompt


def test_moving_and_zooming_leave_the_prompts_alone(hand):
    camera = hand.viewer.scene.camera
    centre = camera.center
    hand.drag(FIRST, (FIRST[0] + 30, FIRST[1] + 20), button=Qt.MiddleButton)
    assert camera.center != centre
    assert len(hand.session.prompts) == 0
    hand.key(Qt.Key_H)
    centre = camera.center
    hand.drag(FIRST, (FIRST[0] + 30, FIRST[1]))
    assert camera.center != centre
    assert len(hand.session.prompts) == 0


def test_a_click_beside_the_slide_says_so(hand):
    hand.look(-200, -200, 100, 100)
    hand.click(-80, -80)
    assert "outside the slide" in hand.dock.status.text.text()
    assert len(hand.session.prompts) == 0


def test_buttons_for_selected_objects(hand):
    for spot in (FIRST, SECOND):
        hand.click(*spot)
        hand.key(Qt.Key_N)
    hand.key(Qt.Key_H)
    hand.click(*FIRST)
    hand.click(*SECOND, shift=True)
    assert len(hand.session.objects.selection) == 2
    table = hand.dock.annotate.objects
    hand.press(table.merge)
    assert len(hand.session.store) == 1
    hand.press(table.cut)
    assert hand.controller.tool is Tool.CUT
    middle = (FIRST[0] + SECOND[0]) / 2
    y = (FIRST[1] + SECOND[1]) / 2
    hand.drag((FIRST[0], y - 40), (FIRST[0], y), (FIRST[0], y + 40))
    assert len(hand.session.store) >= 2, middle
    hand.press(table.delete)
    assert len(hand.session.store) == 0


def test_keys_work_while_the_dock_has_the_focus(hand):
    hand.click(*FIRST)
    hand.dock.activateWindow()
    table = hand.dock.annotate.objects.view
    table.setFocus()
    hand.until(table.hasFocus)
    hand.qtbot.keyClick(table, Qt.Key_N)
    assert len(hand.session.store) == 1
    # Letters typed into the filter are text, not commands.
    hand.click(*SECOND)
    line = hand.dock.annotate.objects.filter
    line.setFocus()
    hand.until(line.hasFocus)
    hand.qtbot.keyClicks(line, "nope")
    assert line.text() == "nope"
    assert len(hand.session.store) == 1


def test_a_store_lies_beside_the_slide(hand, slide_copy: Path):
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    assert list(slide_copy.parent.glob("*.sqlite"))
