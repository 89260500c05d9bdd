"""Several models answer the same click in the window; one answer is taken and kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QStyle, QStyleOptionGroupBox

from napari_histosam.session.side_by_side import COMPARED
from napari_histosam.viewer.layers import ENTRANTS

NUCLEUS = (1134, 2027)


def switch(hand, box, on: bool) -> None:
    """Press the box's own check mark."""
    option = QStyleOptionGroupBox()
    box.initStyleOption(option)
    mark = box.style().subControlRect(QStyle.CC_GroupBox, option, QStyle.SC_GroupBoxCheckBox, box)
    QTest.mouseClick(box, Qt.LeftButton, Qt.NoModifier, mark.center())
    hand.until(lambda: box.isChecked() == on)


def third_model(registry) -> str:
    """Bring the bundled weights, slightly changed, as a model of their own."""
    from napari_histosam.models.small.load import load_net, save_net

    (path,) = registry.files("histosam-small")
    net = load_net(path)
    net.judge.tell.bias.data += 0.5
    own = Path(os.environ["HISTOSAM_HOME"]) / "own.safetensors"
    own.parent.mkdir(parents=True, exist_ok=True)
    save_net(net.state_dict(), own)
    return registry.import_file(own).name


def pictured(hand, model: str) -> int:
    """Return how many px of the canvas have a model's colour."""
    place = [one.model for one in hand.session.comparison.entrants].index(model)
    colour = QColor(ENTRANTS[place])
    wanted = np.array([colour.red(), colour.green(), colour.blue()])
    hand.ready()
    return int((np.abs(hand.canvas_pixels().astype(int) - wanted).max(-1) < 24).sum())


def test_models_answer_side_by_side(open_dock, slide_copy):
    shots = os.environ.get("SHOTS")
    hand = open_dock(slide_copy)
    own = third_model(hand.dock.workbench.registry)
    hand.dock.annotate.model.refresh()
    box = hand.dock.annotate.compare
    assert not box.body.isVisible()
    hand.look(1084, 1977, 1184, 2077)
    switch(hand, box, True)
    assert next(iter(box.rows)) == "histosam-small"
    assert {"classical", own} <= set(box.rows)

    if shots:
        hand.viewer.screenshot(f"{shots}/side0.png", canvas_only=False, flash=False)
    hand.click(*NUCLEUS)
    hand.until(lambda: all(one.shown for one in hand.session.comparison.entrants))
    for name in ("histosam-small", "classical", own):
        assert box.rows[name].time.text().endswith(("ms", "s"))
        assert 0 <= float(box.rows[name].score.text()) <= 1
    assert box.rows["histosam-small"].iou.text() == "shown"
    assert 0 < float(box.rows["classical"].iou.text()) < 1
    assert float(box.rows[own].iou.text()) > 0.9
    assert "IoU of every two masks" in box.agreement.text()
    assert pictured(hand, "classical") > 30

    if shots:
        hand.viewer.screenshot(f"{shots}/side1.png", canvas_only=False, flash=False)
    # Its outline goes and comes back.
    hand.press(box.rows["classical"].eye)
    assert pictured(hand, "classical") < 30
    hand.press(box.rows["classical"].eye)
    assert pictured(hand, "classical") > 30

    # One that is not wanted is asked no more.
    QTest.mouseClick(box.rows[own].asked, Qt.LeftButton, Qt.NoModifier, QPoint(8, 8))
    hand.until(lambda: own not in [one.model for one in hand.session.comparison.entrants])
    assert box.rows[own].time.text() == ""

    hand.press(box.rows["classical"].take)
    assert hand.session.active[1].model == "classical"
    assert box.rows["classical"].iou.text() == "shown"
    assert "in hand" in hand.said
    hand.key(Qt.Key_N)
    (kept,) = list(hand.session.store.iterate())
    assert kept.provenance.model == "classical"
    assert kept.metadata[COMPARED].startswith("histosam-small (score 0.")
    assert box.rows["classical"].time.text() == ""

    switch(hand, box, False)
    hand.click(*NUCLEUS)
    assert hand.session.comparison is None
    assert not box.body.isVisible()
