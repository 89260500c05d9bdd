"""The Learn tab in a real window: from corrections on two slides to a model that answers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest
import shapely
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit

from napari_histosam.models import ModelRegistry
from napari_histosam.records import Provenance, SlideObject
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.slide import open_slide
from napari_histosam.store import ObjectStore, open_store_for
from napari_histosam.store.places import beside
from napari_histosam.viewer.learning.course import Course, courses, courses_folder

PATIENCE_MS = 150_000
# Nuclei of the sample slide, level-0 px, and where slides of their own are cut out around them.
NUCLEI = ((1134.0, 2027.5), (1154.5, 2031.5), (1153.0, 1978.0))
CUTS = {"one.tif": (1020, 1900), "two.tif": (1060, 1930)}
SIDE = 220


@pytest.fixture
def slides(sample_slide_path, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    with open_slide(sample_slide_path) as whole:
        for name, (left, top) in CUTS.items():
            pixels = np.asarray(whole.read_region(left, top, 0, SIDE, SIDE))
            Image.fromarray(pixels).save(folder / name, dpi=(50900, 50900))
    return [folder / name for name in CUTS]


def annotate(hand, slide):
    """Accept three nuclei of a slide and correct two of them with the brush."""
    left, top = CUTS[slide.name]
    hand.look(0, 0, SIDE, SIDE)
    for number, (x, y) in enumerate(NUCLEI):
        spot = (x - left, y - top)
        hand.key(Qt.Key_Q)
        hand.click(*spot)
        hand.key(Qt.Key_9 if number == 2 else Qt.Key_8)
        if number < 2:
            hand.key(Qt.Key_K)
            hand.drag(spot, (spot[0] + 6, spot[1]), (spot[0] + 10, spot[1] + 2))
        hand.key(Qt.Key_N)
    assert len(hand.session.store) == 3


def fill(slide):
    """Keep three nuclei of a slide without a window, two of them corrected."""
    left, top = CUTS[slide.name]
    made = []
    for number, (x, y) in enumerate(NUCLEI):
        shape = shapely.Point(x - left, y - top).buffer(9)
        first = shape if number == 2 else shapely.Point(x - left - 4, y - top).buffer(9)
        about = Provenance("prompted", first_mask=first)
        made.append(SlideObject(shape, ("Tumor", "Stroma")[number == 2], provenance=about))
    with open_slide(slide) as opened, open_store_for(slide, opened.identity, slide.name) as store:
        store.add(made)


def show_tab(hand):
    """Choose the tab with the mouse."""
    bar = hand.dock.tabs.tabBar()
    (at,) = (i for i in range(bar.count()) if bar.tabText(i) == "Learn")
    QTest.mouseClick(bar, Qt.LeftButton, Qt.NoModifier, bar.tabRect(at).center())
    tab = hand.dock.learn
    hand.until(lambda: tab.isVisible() and bool(tab.desk.bases))
    return tab


def press(hand, button):
    """Press a button of the tab with the mouse, scrolled to where it can be seen."""
    hand.until(button.isVisible)
    area = hand.dock.tabs.currentWidget()
    area.ensureWidgetVisible(button)
    assert button.isEnabled(), button.text()
    QTest.mouseClick(button, Qt.LeftButton)
    hand.qtbot.wait(50)


def wait(hand, done):
    hand.qtbot.waitUntil(done, timeout=PATIENCE_MS)


def test_two_slides_are_corrected_a_model_learns_and_answers(open_dock, slides):
    hand = open_dock(slides[0])
    annotate(hand, slides[0])
    tab = show_tab(hand)
    hand.until(lambda: [s.count for s in tab.desk.shelf.slides] == [3])
    assert "nothing to test on" in tab.slides.advice.text()
    assert not tab.plan.start.isEnabled()

    hand.viewer.open(str(slides[1]), plugin="napari-histosam")
    hand.dock.tabs.setCurrentIndex(0)
    hand.ready()
    annotate(hand, slides[1])
    tab = show_tab(hand)
    # The other slide of the folder is proposed.
    hand.until(lambda: [s.count for s in tab.desk.shelf.slides] == [3, 3])
    lines = tab.slides.view.slides()
    assert {item.text(0) for item in lines} == {"one.tif", "two.tif"}
    assert [item.text(1) for item in lines] == ["3", "3"]
    assert [item.text(2) for item in lines] == ["2", "2"]
    assert "2 slides with 6 objects" in tab.slides.advice.text()

    # Left out and taken in again with the mouse.
    box = tab.slides.view.visualItemRect(lines[1])
    spot = box.center()
    spot.setX(box.left() + 10)
    QTest.mouseClick(tab.slides.view.viewport(), Qt.LeftButton, Qt.NoModifier, spot)
    hand.until(lambda: not tab.plan.start.isEnabled())
    box = tab.slides.view.visualItemRect(tab.slides.view.slides()[1])
    QTest.mouseClick(tab.slides.view.viewport(), Qt.LeftButton, Qt.NoModifier, spot)
    hand.until(tab.plan.start.isEnabled)

    tab.plan.base.setCurrentIndex(tab.plan.base.findData(DEFAULT_MODEL))
    tab.plan.epochs.setFocus()
    # Digits are epochs here, though they choose classes elsewhere in the dock.
    for text in ("80", "2"):
        tab.plan.epochs.selectAll()
        QTest.keyClicks(tab.plan.epochs, text)
        assert tab.plan.epochs.value() == int(text)
    # A short trial in a process of its own says what it takes here.
    wait(hand, lambda: tab.plan.takes.text().startswith("About"))
    assert "measured on this machine" in tab.plan.takes.text()

    press(hand, tab.plan.start)
    assert tab.run.isVisible()
    assert not tab.plan.isVisible()
    # The window lives on while the curves move.
    hand.dock.tabs.setCurrentIndex(0)
    hand.click(*(n - c for n, c in zip(NUCLEI[0], CUTS["two.tif"], strict=True)))
    hand.key(Qt.Key_Escape)
    tab = show_tab(hand)
    curve = tab.run.curves.lines["val_click1"]
    wait(hand, lambda: len(curve.getData()[0] if curve.getData()[0] is not None else ()) > 1)
    wait(hand, lambda: tab.result.isVisible())
    assert [len(tab.run.curves.lines[k].getData()[0]) for k in ("val_click3", "val_box")] == [3, 3]
    assert "Dice" in tab.run.dice.text()
    shown = [[cell.text() for cell in line] for line in tab.result.table.cells]
    assert [line[0] for line in shown] == ["Mean IoU", "1 click", "3 clicks", "Box", "n"]
    result = tab.desk.result
    assert f"{result.figures[0].after:.3f}" == shown[1][2]
    assert hand.session.card.name == DEFAULT_MODEL

    # It is in the list, with its card, and nothing has been promoted yet.
    models = hand.dock.annotate.model
    hand.until(lambda: models.choice.findData(result.name) >= 0)
    press(hand, tab.result.use)
    if result.verdict == "worse":
        assert hand.session.card.name == DEFAULT_MODEL
        press(hand, tab.result.use)
    hand.until(lambda: hand.session.card.name == result.name)
    hand.until(lambda: models.card.name == result.name)
    assert "Trained from histosam-small" in models.card_text.text()

    # The new model answers, and is asked first next time.
    hand.dock.tabs.setCurrentIndex(0)
    hand.click(*(n - c for n, c in zip(NUCLEI[1], CUTS["two.tif"], strict=True)))
    assert hand.session.preview is not None
    hand.key(Qt.Key_N)
    assert [o.provenance.model for o in hand.session.store.iterate()][-1] == result.name
    hand.dock.end()
    hand.viewer.close()
    again = open_dock(slides[0])
    assert again.session.card.name == result.name
    assert len(again.session.store) == 3
    tab = show_tab(again)
    # Decided on, so a new training is proposed; the old one can be looked at, and undone.
    assert tab.plan.isVisible()
    tab.trainings.setCurrentIndex(1)
    again.until(tab.result.isVisible)
    press(again, tab.result.back)
    again.until(lambda: again.session.card.name == DEFAULT_MODEL)
    assert again.dock.workbench.choice.model == DEFAULT_MODEL
    assert again.dock.workbench.choice.earlier is None


def finished(home, verdict="worse"):
    """A training that has ended, as its process leaves it, with the model it made."""
    weights = home / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    card = json.loads((ModelRegistry()._search[-1] / "classical.json").read_text("utf-8"))
    (weights / "pupil.json").write_text(json.dumps({**card, "name": "pupil"}), "utf-8")
    course = Course(courses_folder() / "20261101-101500")
    course.run.mkdir(parents=True)
    order = {
        "sources": [], "slides": ["a.svs", "b.svs"], "objects": 40, "model": "histosam-small",
        "method": "decoder", "epochs": 3, "data": "a-and-1-more", "name": "pupil", "threads": 1,
    }  # fmt: skip
    course.write("order", order)
    course.write("course", {"stage": "finished", "message": "Finished.", "pid": 0, "born": 0})
    sign = {"worse": -0.1, "better": 0.1, "same": 0.0}[verdict]
    line = {"before": 0.7, "after": 0.7 + sign, "gain": sign, "low": sign, "high": sign}
    names = ("iou_click1", "iou_click3", "iou_box", "iou")
    found = {"verdict": verdict, "n_objects": 20, "n_groups": 2}
    found["figures"] = dict.fromkeys(names, line)
    course.write("result", {"name": "pupil", "base": "histosam-small", "comparison": found})
    rows = [
        {"kind": "epoch", "epoch": e, "step": 4 * e, "steps": 12, "seconds": e, "loss": 2.0 - e / 2,
         "val_click1": 0.5, "val_click3": 0.6, "val_box": 0.7, "dice": {"Tumor": 0.8}}
        for e in range(4)
    ]  # fmt: skip
    (course.run / "progress.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return course


def test_a_worse_model_is_used_only_after_a_question(open_dock, slides, histosam_home):
    finished(histosam_home)
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    # It waits for a decision, so it is found again.
    hand.until(tab.result.isVisible)
    assert "Worse than histosam-small" in tab.result.verdict.text()
    press(hand, tab.result.use)
    assert "use it anyway?" in tab.result.decided.text()
    assert hand.dock.workbench.choice.model == DEFAULT_MODEL
    press(hand, tab.result.use)
    hand.until(lambda: hand.session.card.name == "pupil")
    assert hand.dock.workbench.choice.model == "pupil"
    press(hand, tab.result.back)
    hand.until(lambda: hand.session.card.name == DEFAULT_MODEL)


def test_the_old_one_is_kept(open_dock, slides, histosam_home):
    finished(histosam_home, "same")
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    press(hand, tab.result.keep)
    assert "was kept" in tab.result.decided.text()
    assert hand.session.card.name == DEFAULT_MODEL
    assert not tab.result.keep.isVisible()


def test_a_run_that_was_killed_says_so_and_can_be_resumed(open_dock, slides, histosam_home):
    course = finished(histosam_home)
    (course.path / "result.json").unlink()
    course.write("course", {"stage": "train", "message": "", "pid": 0, "born": 0})
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    hand.until(tab.run.resume.isVisible)
    assert "ended from outside" in tab.run.state.text()
    assert "your objects are safe" in tab.run.state.text()
    assert not tab.run.pause.isVisible()


@pytest.fixture
def under_way(histosam_home):
    """A training at its steps, whose process only sleeps."""
    course = finished(histosam_home)
    (course.path / "result.json").unlink()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    born = psutil.Process(sleeper.pid).create_time()
    about = {"stage": "train", "message": "", "pid": sleeper.pid, "born": born}
    course.write("course", about)
    (course.run / "run.json").write_text(json.dumps({"state": "running", "step": 6, "steps": 12}))
    yield course
    sleeper.kill()
    sleeper.wait()


def test_each_way_to_end_a_training_is_explained_and_asked_for(open_dock, slides, under_way):
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    run = tab.run
    hand.until(run.finish.isVisible)
    assert [b.isVisible() for b in (run.pause, run.stop, run.resume)] == [True, True, False]
    for word in ("Pause: go on later", "Finish now: keep the best", "Stop: give this training up"):
        assert word in run.ends.text()
    press(hand, run.finish)
    assert (under_way.run / "finish").exists()
    hand.until(lambda: "best epoch so far" in run.state.text())
    assert not any(b.isVisible() for b in (run.pause, run.finish, run.stop, run.resume))
    assert under_way.process() is not None


def test_one_training_at_a_time_and_it_outlives_the_window(open_dock, slides, under_way):
    for slide in slides:
        fill(slide)
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    hand.until(tab.run.isVisible)
    tab.trainings.setCurrentIndex(0)
    hand.until(tab.plan.isVisible)
    hand.until(lambda: "when the training that runs has ended" in tab.plan.takes.text())
    press(hand, tab.plan.start)
    hand.until(lambda: "is running; let it end or stop it first" in hand.said)
    assert courses() == [under_way]
    hand.dock.end()
    hand.viewer.close()
    assert under_way.process() is not None
    # Opened again, the window comes back to it; killed meanwhile, it says so and offers to go on.
    again = open_dock(slides[0])
    tab = show_tab(again)
    again.until(tab.run.pause.isVisible)
    process = under_way.process()
    process.kill()
    again.until(tab.run.resume.isVisible)
    assert "ended from outside" in tab.run.state.text()
    assert tab.run.resume.isEnabled()


def test_slides_that_cannot_be_used_are_said(open_dock, slides, tmp_path):
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    tab.add_slides([tmp_path / "nowhere.svs"])
    hand.until(lambda: "nowhere.svs" in hand.said)
    assert "Traceback" not in hand.said
    assert courses() == []


def test_patients_and_fully_labelled_areas(open_dock, slides):
    for slide in slides:
        fill(slide)
    hand = open_dock(slides[1])
    tab = show_tab(hand)
    view, shelf = tab.slides.view, tab.desk.shelf
    hand.until(lambda: [s.count for s in shelf.slides] == [3, 3])

    def write(row, text):
        """Click into the column of a slide and write, as a user does."""
        index = view.indexFromItem(view.slides()[row], 3)
        hand.dock.tabs.currentWidget().ensureWidgetVisible(view)
        QTest.mouseClick(
            view.viewport(), Qt.LeftButton, Qt.NoModifier, view.visualRect(index).center()
        )
        hand.until(lambda: view.editing)
        (editor,) = (e for e in view.viewport().findChildren(QLineEdit) if e.isVisible())
        editor.selectAll()
        QTest.keyClick(editor, Qt.Key_Delete)
        QTest.keyClicks(editor, text)
        QTest.keyClick(editor, Qt.Key_Return)

    # The digits are a patient's here and choose no class.
    chosen = hand.session.current_class
    for row in (0, 1):
        write(row, "P 89")
        hand.until(lambda row=row: shelf.slides[row].patient == "P 89")
        hand.until(lambda row=row: view.slides()[row].text(3) == "P 89")
    assert hand.session.current_class == chosen
    hand.until(lambda: "2 slides of 1 patient" in tab.slides.advice.text())
    assert not tab.plan.start.isEnabled()
    write(1, "")
    hand.until(lambda: "2 slides with 6 objects" in tab.slides.advice.text())

    press(hand, tab.slides.region_button)
    hand.until(lambda: [s.regions for s in shelf.slides] == [1, 0])
    line = view.slides()[0]
    assert "1 fully labelled area" in [line.child(i).text(0) for i in range(line.childCount())]
    (region,) = (o for o in hand.session.store.iterate() if o.class_name == "Region*")
    assert shapely.box(0, 0, SIDE, SIDE).covers(region.geometry)
    assert [s.count for s in shelf.slides] == [3, 3]
    hand.session.undo()
    hand.until(lambda: [s.regions for s in shelf.slides] == [0, 0])


def test_counts_follow_the_work(open_dock, slides):
    hand = open_dock(slides[0])
    tab = show_tab(hand)
    hand.until(lambda: [s.count for s in tab.desk.shelf.slides] == [0])
    hand.look(0, 0, SIDE, SIDE)
    hand.click(*(n - c for n, c in zip(NUCLEI[0], CUTS["one.tif"], strict=True)))
    hand.key(Qt.Key_N)
    hand.until(lambda: [s.count for s in tab.desk.shelf.slides] == [1])
    assert tab.desk.shelf.slides[0].count_corrected == 0
    with ObjectStore.open(beside(slides[0])) as store:
        (kept,) = store.iterate()
    hand.session.store.replace([kept.id], [replace(kept, geometry=kept.geometry.buffer(2))])
    hand.until(lambda: [s.count_corrected for s in tab.desk.shelf.slides] == [1])
