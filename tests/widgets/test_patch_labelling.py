"""Patch labels in a real window: mouse, keys, regions, files, undo, and what is shown of them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from qtpy.QtCore import Qt

from napari_histosam.viewer.tools import Tool

NEW = "New EP-SAM on histosam-small"
ORANGE, BLUE = (249, 115, 22), (37, 99, 235)


def guided(hand):
    """Choose to learn from patch labels; return the box that labels them."""
    hand.show_tab("Learn")
    tab = hand.dock.learn
    hand.until(lambda: bool(tab.desk.bases))
    tab.plan.base.setCurrentIndex(tab.plan.base.findText(NEW))
    hand.ready()
    assert tab.steps.isVisible()
    assert not tab.slides.isVisible()
    return tab.steps.patches


@pytest.fixture
def hand(open_dock, slide_copy):
    return open_dock(slide_copy)


def labels(hand) -> dict[tuple[int, int], str]:
    work = hand.controller.patches
    return {work.grid.at(*one.middle): one.label for one in work.book.all()}


def along(*corners: tuple[float, float]) -> list[tuple[float, float]]:
    """Return points close together on a line, as a hand draws it."""
    line = shapely.LineString(corners)
    return [line.interpolate(t, normalized=True).coords[0] for t in np.linspace(0, 1, 20)]


def point(hand, x: float, y: float) -> None:
    """Move the pointer without a button."""
    hand._move(hand.at(x, y), Qt.NoButton, Qt.NoModifier)
    hand.qtbot.wait(30)


def tint(hand, cell: tuple[int, int]) -> np.ndarray:
    """Return the mean colour of a cell on the canvas."""
    x, y, w, h = hand.controller.patches.grid.box(*cell)
    a, b = hand.at(x + 0.2 * w, y + 0.2 * h), hand.at(x + 0.8 * w, y + 0.8 * h)
    return hand.canvas_pixels()[a.y() : b.y(), a.x() : b.x()].reshape(-1, 3).mean(0)


def nearer(before: np.ndarray, after: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return np.abs(after - colour).sum() < np.abs(before - colour).sum() - 30


def test_mouse_and_keys_label_patches(hand) -> None:
    box = guided(hand)
    work, store = hand.controller.patches, hand.session.store
    assert [box.side.value(), box.side.suffix()] == [128.0, " µm"]
    side = work.grid.side[0]
    assert side == pytest.approx(128 / 0.499)
    at = work.grid.middle
    before = {cell: tint(hand, cell) for cell in ((1, 1), (2, 3))}

    # Click and drag, in one step each.
    hand.press(box.buttons["tumour"])
    assert hand.controller.tool is Tool.PATCH
    hand.click(*at(1, 1))
    hand.drag(*along(at(2, 1), at(3, 1), at(3, 2)))
    assert labels(hand) == dict.fromkeys([(1, 1), (2, 1), (3, 1), (3, 2)], "tumour")
    assert store.undo_label == "Label tumour"
    hand.press(box.buttons["normal"])
    hand.drag(*along(at(2, 3), at(4, 3)))
    assert labels(hand)[2, 3] == labels(hand)[4, 3] == "normal"
    assert "4 tumour, 3 normal" in box.counts.text()
    assert len(store) == 0  # no object came of it
    hand.until(lambda: nearer(before[1, 1], tint(hand, (1, 1)), ORANGE))
    hand.until(lambda: nearer(before[2, 3], tint(hand, (2, 3)), BLUE))

    # Shift clears, Ctrl+Z takes back step by step.
    hand.drag(*along(at(2, 1), at(3, 1)), shift=True)
    assert (2, 1) not in labels(hand)
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert labels(hand) == dict.fromkeys([(1, 1), (2, 1), (3, 1), (3, 2)], "tumour")
    hand.key(Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    assert labels(hand)[2, 3] == "normal"

    # Keys label what lies under the pointer.
    point(hand, *at(5, 5))
    hand.key(Qt.Key_T)
    assert labels(hand)[5, 5] == "tumour"
    hand.key(Qt.Key_N)
    assert labels(hand)[5, 5] == "normal"
    hand.key(Qt.Key_Delete)
    assert (5, 5) not in labels(hand)
    point(hand, -300, -300)
    hand.key(Qt.Key_T)
    assert "not over a patch" in hand.said

    # Escape gives the mouse and the letters back.
    hand.key(Qt.Key_Escape)
    assert hand.controller.tool is Tool.CLICK
    assert not any(made.isChecked() for made in box.buttons.values())
    count = len(labels(hand))
    point(hand, *at(6, 6))
    hand.key(Qt.Key_T)
    hand.key(Qt.Key_N)
    assert len(labels(hand)) == count

    # In another tab, neither grid nor labels; and painting has ended.
    hand.press(box.buttons["tumour"])
    hand.show_tab("Annotate")
    assert hand.controller.tool is Tool.CLICK
    assert not any("Patch" in layer.name for layer in hand.viewer.layers)
    hand.show_tab("Learn")
    assert {"Patch grid", "Patch labels"} <= {layer.name for layer in hand.viewer.layers}
    # What a user removes of it comes back.
    hand.viewer.layers.remove("Patch labels")
    hand.until(lambda: "Patch labels" in hand.viewer.layers)


def test_regions_sizes_and_files(hand, tmp_path) -> None:
    box = guided(hand)
    work = hand.controller.patches
    side = work.grid.side[0]
    assert not box.region["tumour"].isVisible()
    hand.press(box.draw)
    assert "draw a line around" in box.hint.text()
    ring = [(1.1, 1.1), (3.9, 1.1), (3.9, 2.9), (1.1, 2.9), (1.1, 1.1)]
    hand.drag(*along(*((x * side, y * side) for x, y in ring))[:-1])
    hand.press(box.region["normal"])
    assert labels(hand) == dict.fromkeys([(c, r) for c in (1, 2, 3) for r in (1, 2)], "normal")
    assert hand.controller.region is None
    assert "6 patches of the region are normal" in hand.said
    assert hand.session.store.undo_label == "Label normal in a region"

    # Out and in again; another size of patches knows nothing of these.
    box.export_file(tmp_path / "out")
    assert "6 patch labels are in out.csv" in hand.said
    box.side.setValue(64.0)
    assert "0 tumour, 0 normal · 6 of other sizes" in box.counts.text()
    assert work.grid.side[0] == pytest.approx(side / 2)
    assert not hand.viewer.layers["Patch labels"].data.any()
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert labels(hand) == {}
    box.import_file(tmp_path / "out.csv")
    assert box.side.value() == 128.0  # that of the file
    assert "0 tumour, 6 normal" in box.counts.text()
    (tmp_path / "bad.csv").write_text("column,row,label\n1,1,maybe\n")
    box.import_file(tmp_path / "bad.csv")
    assert "Line 2 of bad.csv has the label 'maybe'" in hand.said
    assert len(labels(hand)) == 6
