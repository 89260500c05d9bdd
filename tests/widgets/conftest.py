"""A window with the dock, and a hand that moves a real mouse and presses real keys in it."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from qtpy.QtWidgets import QAbstractButton

PATIENCE_MS = 20_000


class Hand:
    """Drives one window: level-0 px of the slide at work in, Qt events out."""

    def __init__(self, viewer, dock, qtbot) -> None:
        self.viewer = viewer
        self.dock = dock
        self.qtbot = qtbot
        self.canvas = viewer.window._qt_viewer.canvas.native

    @property
    def controller(self):
        return self.dock.workbench.controller

    @property
    def session(self):
        return self.controller.session

    def until(self, done: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(done, timeout=PATIENCE_MS)

    @staticmethod
    def threads(*but: str) -> list[str]:
        """Return the names of this project's threads that run, without those with ``but`` in it."""
        names = [t.name for t in threading.enumerate() if t.name.startswith("histosam")]
        return [n for n in names if not any(b in n for b in but)]

    @property
    def said(self) -> str:
        """The last line of the dock."""
        return self.dock.status.text.text()

    def canvas_pixels(self) -> np.ndarray:
        """Return what the canvas shows, RGB."""
        return self.viewer.screenshot(canvas_only=True, flash=False)[..., :3]

    def ready(self) -> None:
        """Wait for the model, the answers and the tiles."""
        self.until(lambda: self.controller is not None and self.session.settled)
        # A camera that has just moved asks for its tiles when it is drawn, and what these improve
        # is drawn after them: so draw, wait, draw.
        for _ in range(2):
            self.canvas.repaint()
            self.until(lambda: self.shown_exactly)
        self.canvas.repaint()
        self.qtbot.wait(120)

    @property
    def shown_exactly(self) -> bool:
        """Whether every tile of the last drawn view is there, and napari has sliced it."""
        pyramid = self.controller.layer.metadata.get("histosam_pyramid")
        layers = [self.controller.layer, *self.viewer.layers]
        return (
            self.controller.objects.pyramid.idle
            and (pyramid is None or pyramid.idle)
            and all(layer.loaded for layer in layers)
        )

    def at(self, x: float, y: float) -> QPoint:
        """Return the canvas px of a level-0 point."""
        camera = self.viewer.scene.camera
        height, width = self.viewer.canvas.size
        wy, wx = self.controller.viewport.to_world(x, y)
        return QPoint(
            round(width / 2 + (wx - camera.center[2]) * camera.zoom),
            round(height / 2 + (wy - camera.center[1]) * camera.zoom),
        )

    def look(self, left: float, top: float, right: float, bottom: float) -> None:
        self.controller.look_at(left, top, right, bottom)
        self.ready()

    def click(self, x: float, y: float, *, shift: bool = False, button=Qt.LeftButton) -> None:
        held = Qt.ShiftModifier if shift else Qt.NoModifier
        QTest.mouseMove(self.canvas, self.at(x, y))
        QTest.mousePress(self.canvas, button, held, self.at(x, y))
        QTest.mouseRelease(self.canvas, button, held, self.at(x, y))
        self.ready()

    def drag(self, *path: tuple[float, float], shift: bool = False, button=Qt.LeftButton) -> None:
        held = Qt.ShiftModifier if shift else Qt.NoModifier
        spots = [self.at(*p) for p in path]
        QTest.mouseMove(self.canvas, spots[0])
        QTest.mousePress(self.canvas, button, held, spots[0])
        for spot in spots[1:]:
            # QTest moves without buttons held; a real drag has them, so the event is made here.
            self._move(spot, button, held)
            self.qtbot.wait(10)
        QTest.mouseRelease(self.canvas, button, held, spots[-1])
        self.ready()

    def key(self, key, held=Qt.NoModifier) -> None:
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, held)
        self.ready()

    def show_tab(self, name: str) -> None:
        """Bring a tab of the dock to the front."""
        tabs = self.dock.tabs
        tabs.setCurrentIndex([tabs.tabText(i) for i in range(tabs.count())].index(name))

    def press(self, button: QAbstractButton) -> None:
        """Press a button of the dock with the mouse."""
        assert button.isEnabled(), f"{button.text()} is greyed out"
        QTest.mouseClick(button, Qt.LeftButton)
        self.ready()

    def _move(self, spot: QPoint, button, held) -> None:
        from qtpy.QtCore import QEvent, QPointF
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        event = QMouseEvent(
            QEvent.Type.MouseMove,
            QPointF(spot),
            QPointF(self.canvas.mapToGlobal(spot)),
            Qt.NoButton,
            button,
            held,
        )
        # vispy swallows a move within 10 ms of another one, such as Qt's own.
        time.sleep(0.012)
        QApplication.sendEvent(self.canvas, event)


@pytest.fixture
def slide_copy(sample_slide_path: Path, tmp_path: Path) -> Path:
    """The sample slide in a folder of the test's own, where its store may lie beside it."""
    return Path(shutil.copy(sample_slide_path, tmp_path / sample_slide_path.name))


@pytest.fixture
def open_dock(make_napari_viewer, qtbot, monkeypatch):
    """Open a window with the dock, and a slide if one is given; all are closed at the end."""
    monkeypatch.setenv("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
    hands = []

    def opened(slide: Path | None = None) -> Hand:
        viewer = make_napari_viewer(show=True, strict_qt="raise")
        viewer.window.resize(1400, 900)
        _, dock = viewer.window.add_plugin_dock_widget("napari-histosam", "HistoSAM")
        hand = Hand(viewer, dock, qtbot)
        hands.append(hand)
        if slide is not None:
            viewer.open(str(slide), plugin="napari-histosam")
            hand.ready()
        return hand

    yield opened
    for hand in hands:
        hand.dock.end()
        hand.viewer.close()
    qtbot.waitUntil(lambda: not Hand.threads(), timeout=PATIENCE_MS)
    # Refreshes that were on their way hold a window until their time has come.
    qtbot.wait(200)


@pytest.fixture(autouse=True)
def nothing_unforeseen(caplog):
    """Fail a test in which the window swallowed an error that nobody foresaw."""
    yield
    trouble = [r for r in caplog.records if r.levelname == "ERROR" and "histosam" in r.name]
    assert not trouble, trouble[0].exc_text or trouble[0].message
