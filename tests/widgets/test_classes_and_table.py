"""The classes and the table of objects, by mouse and key."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from qtpy.QtCore import QItemSelectionModel, QPoint, Qt
from qtpy.QtTest import QTest

from napari_histosam.records import ObjectClass, Provenance, SlideObject
from napari_histosam.widgets import class_bar

FIRST, SECOND, THIRD = (1134.0, 2027.5), (1154.5, 2031.5), (1153.0, 1978.0)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.look(*FIELD)
    return made


def keep(hand, *spots):
    for spot in spots:
        hand.click(*spot)
        hand.key(Qt.Key_N)


def classes(hand):
    return [o.class_name for o in hand.session.store.iterate()]


def column(hand, number):
    model = hand.dock.annotate.objects.model
    return [model.index(r, number).data() for r in range(model.rowCount())]


def shown_name(button):
    return button.text().split(" (")[0]


# -- classes -------------------------------------------------------------------------------------


def test_classes_by_key_and_button(hand):
    bar = hand.dock.annotate.classes
    names = [c.name for c in hand.session.store.classes()]
    assert list(bar.buttons()) == names
    for key, name in zip((Qt.Key_8, Qt.Key_9, Qt.Key_0), names, strict=False):
        hand.key(key)
        assert hand.session.current_class == name
        assert bar.buttons()[name].isChecked()
        assert sum(b.isChecked() for b in bar.buttons().values()) == 1
    hand.press(bar.buttons()[names[0]])
    keep(hand, FIRST)
    # A second click on it takes the choice back.
    hand.press(bar.buttons()[names[0]])
    assert not any(b.isChecked() for b in bar.buttons().values())
    keep(hand, SECOND)
    assert classes(hand) == [names[0], None]


def test_add_rename_recolour_and_delete(hand):
    bar, store = hand.dock.annotate.classes, hand.session.store
    bar.add_class("  Mitosis ")
    assert hand.session.current_class == "Mitosis"
    assert bar.buttons()["Mitosis"].isChecked()
    keep(hand, FIRST, SECOND)
    bar.add_class("Mitosis")
    bar.add_class("   ")
    assert [c.name for c in store.classes()].count("Mitosis") == 1
    old = next(c for c in store.classes() if c.name == "Mitosis")

    bar.change("Mitosis", ObjectClass("Mitotic figure", old.colour))
    assert classes(hand) == ["Mitotic figure"] * 2
    assert hand.session.current_class == "Mitotic figure"
    assert bar.buttons()["Mitotic figure"].isChecked()
    assert set(column(hand, 1)) == {"Mitotic figure"}
    keep(hand, THIRD)
    assert classes(hand) == ["Mitotic figure"] * 3

    before = hand.canvas_pixels().astype(int)
    bar.change("Mitotic figure", ObjectClass("Mitotic figure", (0, 255, 0)))
    hand.ready()
    green = hand.canvas_pixels().astype(int)
    assert abs(green - before).max() > 60
    icon = bar.buttons()["Mitotic figure"].icon().pixmap(14, 14).toImage()
    assert icon.pixelColor(icon.width() // 2, icon.height() // 2).green() > 200

    bar.change("Mitotic figure", ObjectClass("Stroma", (0, 255, 0)))
    assert "Stroma" in hand.said
    assert classes(hand) == ["Mitotic figure"] * 3

    bar.delete("Mitotic figure")
    assert classes(hand) == [None] * 3
    assert hand.session.current_class is None
    assert "Mitotic figure" not in bar.buttons()
    keep(hand, (1170.0, 1990.0))
    assert "Mitotic figure" not in {c.name for c in store.classes()}
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert classes(hand) == ["Mitotic figure"] * 3
    assert "Mitotic figure" in bar.buttons()


def test_the_dialogs_of_a_class(hand, monkeypatch):
    from qtpy.QtGui import QColor

    bar = hand.dock.annotate.classes
    typed = iter([("New one", True), ("Newer", True), ("ignored", False)])
    monkeypatch.setattr(class_bar.QInputDialog, "getText", lambda *a, **k: next(typed))
    monkeypatch.setattr(class_bar.QColorDialog, "getColor", lambda *a: QColor(1, 2, 3))
    bar._ask_new()
    known = {c.name: c for c in hand.session.store.classes()}
    bar._ask_name(known["New one"])
    known = {c.name: c for c in hand.session.store.classes()}
    assert "New one" not in known
    bar._ask_colour(known["Newer"])
    bar._ask_name(known["Newer"])
    known = {c.name: c for c in hand.session.store.classes()}
    assert known["Newer"].colour == (1, 2, 3)
    offered = []

    class Menu(class_bar.QMenu):
        def exec(self, _at):
            offered.extend(a.text() for a in self.actions())

    monkeypatch.setattr(class_bar, "QMenu", Menu)
    button = bar.buttons()["Newer"]
    button.customContextMenuRequested.emit(QPoint(2, 2))
    assert offered == ["Rename…", "Colour…", "Delete"]


def test_selected_objects_take_the_class(hand):
    keep(hand, FIRST, SECOND, THIRD)
    hand.key(Qt.Key_H)
    hand.click(*FIRST)
    hand.click(*SECOND, shift=True)
    hand.key(Qt.Key_9)
    assert sorted(classes(hand), key=str) == [None, "Stroma", "Stroma"]
    assert len(hand.session.objects.selection) == 2
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert classes(hand) == [None] * 3
    hand.key(Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert classes(hand).count("Stroma") == 2


# -- the table -----------------------------------------------------------------------------------


@pytest.fixture
def many(hand):
    """Two thousand squares of four classes; sizes, classes and sources known."""
    objects = []
    for i in range(2000):
        x, y = 30 + 40 * (i % 50), 30 + 40 * (i // 50)
        side = 4 + i % 20
        objects.append(
            SlideObject(
                geometry=shapely.box(x, y, x + side, y + side),
                class_name=("Tumor", "Stroma", "Necrosis", None)[i % 4],
                name="needle" if i == 777 else None,
                provenance=Provenance(source="imported" if i % 2 else "manual", score=i / 2000),
            )
        )
    hand.session.store.add(objects, label="Squares")
    hand.ready()
    return objects


def test_a_row_takes_the_view_to_its_object(hand, many):
    table = hand.dock.annotate.objects
    assert table.title.text() == "Objects · 2 000"
    assert table.model.rowCount() == 2000
    row = table.model.position(many[777].id)
    table.view.scrollTo(table.model.index(row, 0))
    at = table.view.visualRect(table.model.index(row, 1)).center()
    QTest.mouseClick(table.view.viewport(), Qt.LeftButton, Qt.NoModifier, at)
    hand.ready()
    assert hand.session.objects.selection == (many[777].id,)
    left, top, right, bottom = hand.controller.view
    centre = many[777].geometry.centroid
    assert (left + right) / 2 == pytest.approx(centre.x, abs=1)
    assert (top + bottom) / 2 == pytest.approx(centre.y, abs=1)
    # Its outline is drawn in the selection's yellow.
    spot = hand.at(centre.x, many[777].geometry.bounds[1])
    patch = hand.canvas_pixels()[spot.y() - 3 : spot.y() + 4, spot.x() - 3 : spot.x() + 4]
    assert abs(patch.astype(int) - (255, 255, 0)).max(-1).min() < 40

    # The other way round: a click on the canvas finds the row.
    hand.key(Qt.Key_H)
    other = many[828].geometry.centroid
    hand.look(other.x - 100, other.y - 100, other.x + 100, other.y + 100)
    hand.click(other.x, other.y)
    rows = [i.row() for i in table.view.selectionModel().selectedRows()]
    assert rows == [table.model.position(many[828].id)]


def test_filter_and_sorting(hand, many):
    table = hand.dock.annotate.objects
    QTest.keyClicks(table.filter, "needle")
    assert column(hand, 0) == ["778"]
    assert table.title.text() == "Objects · 1 of 2 000"
    table.filter.clear()
    table.classes.setCurrentIndex(table.classes.findText("Stroma"))
    assert table.model.rowCount() == 500
    table.classes.setCurrentIndex(table.classes.findText("unclassified"))
    assert table.model.rowCount() == 500
    assert set(column(hand, 1)) == {"unclassified"}
    table.classes.setCurrentIndex(0)
    assert table.model.rowCount() == 2000

    header = table.view.horizontalHeader()
    for section in (2, 3):
        middle = header.sectionViewportPosition(section) + header.sectionSize(section) // 2
        at = QPoint(middle, header.height() // 2)
        QTest.mouseClick(header.viewport(), Qt.LeftButton, Qt.NoModifier, at)
        up = [float(v.split()[0]) for v in column(hand, section)]
        QTest.mouseClick(header.viewport(), Qt.LeftButton, Qt.NoModifier, at)
        down = [float(v.split()[0]) for v in column(hand, section)]
        assert {tuple(up), tuple(down)} == {
            tuple(sorted(up)),
            tuple(sorted(up, reverse=True)),
        }
    # An edit keeps order and selection.
    chosen = table.model.row(4).id
    hand.session.objects.select([chosen])
    hand.key(Qt.Key_8)
    rows = [i.row() for i in table.view.selectionModel().selectedRows()]
    assert rows == [table.model.position(chosen)]


def test_many_rows_are_deleted_in_one_step(hand, many):
    table = hand.dock.annotate.objects
    table.classes.setCurrentIndex(table.classes.findText("Necrosis"))
    table.view.selectAll()
    assert len(hand.session.objects.selection) == 500
    hand.press(table.delete)
    assert table.title.text() == "Objects · 0 of 1 500"
    assert not hand.session.objects.selection
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(hand.session.store) == 2000
    assert table.model.rowCount() == 500


def test_the_canvas_is_right_with_many(hand, many):
    hand.viewer.canvas.overlays.scale_bar.visible = False
    hand.look(30, 30, 330, 330)
    hand.ready()
    shown = hand.canvas_pixels().astype(int)
    hand.viewer.layers["Objects"].visible = False
    hand.qtbot.wait(200)
    bare = hand.canvas_pixels().astype(int)
    changed = abs(shown - bare).max(-1) > 25
    left, top, right, bottom = hand.controller.view
    for item in many:
        x0, y0, x1, y1 = item.geometry.bounds
        if x0 < left + 10 or x1 > right - 10 or y0 < top + 10 or y1 > bottom - 10:
            continue
        a, b = hand.at(x0, y0), hand.at(x1, y1)
        assert changed[a.y() - 1 : b.y() + 2, a.x() - 1 : b.x() + 2].any(), item.geometry.bounds
        gap = hand.at(x1 + 8, y1 + 8)
        assert not changed[gap.y(), gap.x()]


def test_selecting_rows_by_keyboard(hand, many):
    table = hand.dock.annotate.objects
    hand.dock.activateWindow()
    table.view.setFocus()
    hand.until(table.view.hasFocus)
    first = table.model.index(0, 0)
    flags = QItemSelectionModel.SelectionFlag
    table.view.selectionModel().setCurrentIndex(first, flags.ClearAndSelect | flags.Rows)
    for _ in range(3):
        QTest.keyClick(table.view, Qt.Key_Down, Qt.ShiftModifier)
    assert len(hand.session.objects.selection) == 4
    QTest.keyClick(table.view, Qt.Key_Delete)
    assert len(hand.session.store) == 1996
    assert np.all([len(c) for c in column(hand, 0)])
