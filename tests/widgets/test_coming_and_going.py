"""Layers removed or renamed, docks and windows closed, while work is going on: nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from qtpy.QtCore import Qt

from napari_histosam.session.answer import Answerer
from napari_histosam.store import ObjectStore

FIRST, SECOND = (1134.0, 2027.5), (1154.5, 2031.5)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.look(*FIELD)
    return made


@pytest.fixture
def slow_answers(monkeypatch):
    """Answers that take as long as the test wants; ``began`` tells that one is under way."""

    class Gate:
        began, go = threading.Event(), threading.Event()

    gate, quick = Gate(), Answerer.answer

    def answer(self, request, stale=lambda: False):
        gate.began.set()
        gate.go.wait(20)
        return quick(self, request, stale)

    monkeypatch.setattr(Answerer, "answer", answer)
    yield gate
    gate.go.set()


def layer(hand, name):
    return next((x for x in hand.viewer.layers if x.name == name), None)


def kept_on_disk(slide_copy):
    """Read the store's file with a second pair of eyes."""
    (path,) = slide_copy.parent.glob("*.sqlite")
    with ObjectStore.open(path) as store:
        return len(store)


def mouse_and_keys(viewer):
    """Return how many mouse callbacks and keys of ours a viewer has."""
    ours = [f for f in viewer.mouse_drag_callbacks if "histosam" in f.__module__]
    return len(ours), len(viewer.keymap)


@pytest.mark.parametrize("name", ["Objects", "Preview", "Clicks", "Strokes"])
def test_a_removed_layer_of_ours_comes_back_and_work_goes_on(hand, name):
    hand.click(*SECOND)
    hand.key(Qt.Key_N)
    hand.drag((FIRST[0] - 10, FIRST[1] - 10), FIRST, (FIRST[0] + 10, FIRST[1] + 10))
    hand.click(FIRST[0] + 14, FIRST[1] - 12, shift=True)
    before = hand.session.preview
    hand.viewer.layers.remove(layer(hand, name))
    hand.until(lambda: layer(hand, name) is not None)
    assert f"{name} is part of HistoSAM" in hand.said
    assert hand.session.preview is before
    assert [x.name for x in hand.viewer.layers].count(name) == 1
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 2
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(hand.session.store) == 1


def test_a_brought_back_layer_shows_what_is_true(hand):
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    hand.click(*SECOND)
    with_both = hand.canvas_pixels().astype(int)
    for name in ("Objects", "Preview", "Clicks"):
        hand.viewer.layers.remove(layer(hand, name))
        hand.until(lambda name=name: layer(hand, name) is not None)
        hand.ready()
    assert abs(hand.canvas_pixels().astype(int) - with_both).mean() < 0.5


def test_names_are_the_users_to_change(hand):
    for old in ("Objects", "CMU-1-Small-Region.svs"):
        layer(hand, old).name = f"my {old}"
    hand.click(*FIRST)
    layer(hand, "Preview").name = "x"
    layer(hand, "Clicks").name = "y"
    assert hand.dock.slide_bar.slides.currentText() == "my CMU-1-Small-Region.svs"
    hand.click(*SECOND)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1
    names = [x.name for x in hand.viewer.layers]
    assert len(names) == 4, names


def test_many_objects_leave_four_layers(hand):
    for i in range(6):
        hand.click(FIRST[0] + 7 * i, FIRST[1])
        hand.key(Qt.Key_Escape if i % 2 else Qt.Key_N)
    hand.drag((1100, 2000), (1115, 2020), (1130, 2040))
    hand.key(Qt.Key_Escape)
    assert len(hand.viewer.layers) == 5, hand.viewer.layers
    assert layer(hand, "Clicks").data.shape == (0, 2)
    assert layer(hand, "Strokes").nshapes == 0
    assert layer(hand, "Preview").data.shape == (2, 2)


def test_removing_the_slide_ends_the_work_and_keeps_the_objects(hand, slide_copy):
    bare = hand.viewer
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    hand.click(*SECOND)
    bare.layers.remove(hand.controller.layer)
    assert hand.controller is None
    assert not bare.layers
    assert mouse_and_keys(bare) == (0, 0)
    assert bare.scene.camera.mouse_pan
    hand.until(lambda: not hand.threads("job"))
    assert kept_on_disk(slide_copy) == 1
    assert "Open a slide" in hand.dock.slide_bar.facts.text()
    assert not hand.dock.annotate.object.accept.isEnabled()


def test_removing_the_slide_while_an_answer_is_on_its_way(hand, slow_answers, slide_copy):
    session = hand.session
    session.add_point(*FIRST)
    assert slow_answers.began.wait(10)
    begin = time.perf_counter()
    hand.viewer.layers.remove(hand.controller.layer)
    # The window does not wait for the answer.
    assert time.perf_counter() - begin < 2
    assert hand.controller is None
    slow_answers.go.set()
    hand.qtbot.wait(300)
    assert not hand.viewer.layers
    hand.viewer.open(str(slide_copy), plugin="napari-histosam")
    hand.ready()
    hand.look(*FIELD)
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1


def test_removing_the_slide_while_objects_are_being_written(hand, slide_copy, monkeypatch):
    from napari_histosam.widgets import exchange_tab

    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    at_work, go = threading.Event(), threading.Event()
    quick = exchange_tab.run_export

    def slow(session, plan, path, report, cancel):
        at_work.set()
        go.wait(20)
        return quick(session, plan, path, report, cancel)

    monkeypatch.setattr(exchange_tab, "run_export", slow)
    target = slide_copy.parent / "out.geojson"
    hand.dock.exchange.export_to(target)
    assert at_work.wait(10)
    hand.viewer.layers.remove(hand.controller.layer)
    go.set()
    hand.until(lambda: not hand.dock.status.running.isVisible())
    # Whole or not at all, and never half of it.
    assert not target.exists() or '"FeatureCollection"' in target.read_text()
    assert not list(target.parent.glob("*.tmp*"))
    assert "Traceback" not in hand.said


def test_a_button_held_while_the_slide_goes(hand, qtbot):
    from qtpy.QtTest import QTest

    hand.click(*SECOND)
    QTest.mousePress(hand.canvas, Qt.LeftButton, Qt.NoModifier, hand.at(*FIRST))
    spot = hand.at(FIRST[0] + 20, FIRST[1] + 20)
    hand._move(spot, Qt.LeftButton, Qt.NoModifier)
    hand.viewer.layers.remove(hand.controller.layer)
    hand._move(spot, Qt.LeftButton, Qt.NoModifier)
    QTest.mouseRelease(hand.canvas, Qt.LeftButton, Qt.NoModifier, spot)
    assert not hand.viewer.layers


def test_the_dock_is_closed_and_opened_again(hand, slide_copy, qtbot):
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    hand.click(*SECOND)
    viewer = hand.viewer
    docked = next(iter(viewer.window._wrapped_dock_widgets.values()))
    docked.title.close_button.click()
    assert [x.name for x in viewer.layers] == ["CMU-1-Small-Region.svs"]
    assert mouse_and_keys(viewer) == (0, 0)
    qtbot.waitUntil(lambda: not hand.threads("tiles", "build"))
    # The slide stays and is drawn as before.
    viewer.scene.camera.zoom *= 2
    pyramid = viewer.layers[0].metadata["histosam_pyramid"]
    qtbot.wait(300)
    qtbot.waitUntil(lambda: pyramid.idle)

    _, hand.dock = viewer.window.add_plugin_dock_widget("napari-histosam", "HistoSAM")
    hand.ready()
    hand.look(*FIELD)
    assert len(hand.session.store) == 1
    assert len(hand.session.prompts) == 0
    assert pyramid.levels[0] is viewer.layers[0].data[0]
    hand.click(*SECOND)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 2
    assert mouse_and_keys(viewer)[0] == 1


def test_the_viewer_is_closed_with_work_running(hand, slow_answers, slide_copy, qtbot):
    slow_answers.go.set()
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    slow_answers.go.clear()
    slow_answers.began.clear()
    hand.session.add_point(*SECOND)
    assert slow_answers.began.wait(10)
    hand.dock.jobs.start("a long job", lambda report, cancel: slow_answers.go.wait(20))
    begin = time.perf_counter()
    hand.viewer.close()
    assert time.perf_counter() - begin < 4
    slow_answers.go.set()
    qtbot.waitUntil(lambda: not hand.threads(), timeout=20_000)
    assert kept_on_disk(slide_copy) == 1


WINDOW = """
import sys, threading, time
from pathlib import Path
from qtpy.QtCore import QTimer
from napari_histosam.session.answer import Answerer
from napari_histosam.viewer import launch

viewer, dock = launch.open_with_dock(Path(sys.argv[1]))
quick, stuck = Answerer.answer, threading.Event()

def step():
    session = dock.workbench.controller.session
    if not session.device or not session.settled:
        return
    if not len(session.store) and session.preview is None:
        session.add_point(1134.0, 2027.5)
    elif session.preview is not None:
        session.accept()
        Answerer.answer = lambda *a, **k: time.sleep(2)
        session.add_point(1154.5, 2031.5)
        dock.jobs.start("a job", lambda report, cancel: time.sleep(1))
        QTimer.singleShot(300, viewer.window._qt_window.close)
        clock.stop()

clock = QTimer()
clock.timeout.connect(step)
clock.start(50)
launch.run()
print("left", [t.name for t in threading.enumerate() if t.name.startswith("histosam-model")])
"""


def test_the_window_is_closed_by_its_frame_with_work_running(slide_copy, tmp_path):
    """In a process of its own: it ends by itself, quietly, and the object is on disk."""
    env = {**os.environ, "HISTOSAM_HOME": str(tmp_path / "home"), "NAPARI_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-c", WINDOW, str(slide_copy)],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert kept_on_disk(slide_copy) == 1


def test_reordering_layers_does_not_end_the_work(hand):
    hand.click(*FIRST)
    controller = hand.controller
    hand.viewer.layers.move(0, len(hand.viewer.layers))
    hand.viewer.layers.move(1, 0)
    assert hand.controller is controller
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1


def test_a_copy_of_the_slides_layer_can_go_without_the_slide(hand):
    first = hand.controller.layer
    copy = type(first)(
        first.data, multiscale=True, rgb=True, name="copy", metadata=dict(first.metadata),
        scale=first.scale, units=first.units,
    )  # fmt: skip
    hand.viewer.add_layer(copy)
    hand.ready()
    hand.viewer.layers.remove(copy)
    hand.ready()
    assert hand.controller.layer is first
    hand.look(*FIELD)
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1


def test_painting_in_a_layer_of_ones_own_gives_no_prompts(hand):
    import numpy as np

    own = hand.viewer.add_labels(np.zeros((2967, 2220), np.uint8), scale=(0.499, 0.499))
    own.mode = "paint"
    own.selected_label = 3
    hand.click(*FIRST)
    assert own.data.any()
    assert len(hand.session.prompts) == 0
    hand.key(Qt.Key_Q)
    hand.click(*FIRST)
    assert len(hand.session.prompts) == 1


def test_napari_tools_cannot_change_what_our_layers_show(hand):
    hand.click(*FIRST)
    for name, mode in (("Clicks", "add"), ("Preview", "paint")):
        shown = layer(hand, name)
        hand.viewer.layers.selection.active = shown
        shown.mode = mode
        assert shown.mode == "pan_zoom"
    hand.click(*SECOND)
    assert len(hand.session.prompts) == 2
    assert len(layer(hand, "Clicks").data) == 2


def test_a_floating_or_hidden_dock_goes_on_working(hand, qtbot):
    controller = hand.controller
    docked = next(iter(hand.viewer.window._wrapped_dock_widgets.values()))
    docked.setFloating(True)
    qtbot.wait(100)
    docked.hide()
    docked.show()
    docked.setFloating(False)
    qtbot.wait(100)
    assert hand.controller is controller
    hand.look(*FIELD)
    hand.click(*FIRST)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1


def test_in_3d_the_tools_rest(hand):
    hand.viewer.dims.ndisplay = 3
    hand.qtbot.wait(200)
    hand.click(*FIRST)
    assert len(hand.session.prompts) == 0
    assert "2D" in hand.said
    hand.viewer.dims.ndisplay = 2
    hand.look(*FIELD)
    hand.click(*FIRST)
    assert len(hand.session.prompts) == 1
