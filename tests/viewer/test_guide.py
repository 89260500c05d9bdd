"""The guided way without a window: its steps, the classifier, the heat, the outlines."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import psutil
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_histosam.cli import patch_course
from napari_histosam.errors import InputError
from napari_histosam.jobs import JobRunner
from napari_histosam.viewer.heat import MOST, ViewHeat
from napari_histosam.viewer.learning.guide import Guide
from napari_histosam.viewer.learning.patch_bases import patch_bases
from napari_histosam.viewer.learning.patch_order import (
    PatchCourse,
    PatchOrder,
    begin_patches,
    patch_courses,
)
from napari_histosam.viewer.workbench import Workbench

PATIENCE = 400.0
SIDE = 32.0  # µm, 64 px of these slides


@pytest.fixture
def workbench():
    made = Workbench(ViewerModel())
    yield made
    made.close()


@pytest.fixture
def guide(workbench, bench):
    jobs = JobRunner(threads=1)
    made = Guide(workbench, jobs, bench.launcher)
    made.jobs = jobs
    yield made
    jobs.close()


def halves(path, seed: int):
    """A slide whose left half is full of dark dots, and whose right half is pale."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal((228, 190, 210), 6, (512, 1024, 3))
    rows, columns = np.mgrid[:512, :1024]
    dots = ((rows % 16 - 8) ** 2 + (columns % 16 - 8) ** 2 < 30) & (columns < 512)
    pixels[dots] = rng.normal((90, 60, 140), 8, (int(dots.sum()), 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, dpi=(50800, 50800))
    return path


def standings(guide) -> dict[str, str]:
    return {step.key: step.standing for step in guide.steps()}


def step(guide, key: str):
    return next(one for one in guide.steps() if one.key == key)


def opened(guide, workbench, path) -> ViewHeat:
    """Open a slide, choose to begin a model on the bundled encoder."""
    workbench.open(path)
    controller = workbench.controller
    controller.patches.set_side(SIDE)
    heat = ViewHeat(controller, workbench.registry, guide.jobs, None)
    guide.show_controller(controller, heat)
    (base,) = patch_bases(workbench.registry)
    assert base.title == "New EP-SAM on histosam-small"
    guide.choose(base)
    return heat


def label_halves(controller, rows: int) -> None:
    work = controller.patches
    assert (work.grid.columns, work.grid.rows) == (16, 8)
    work.label([(column, row) for column in range(1, 7) for row in range(rows)], "tumour")
    work.label([(column, row) for column in range(9, 15) for row in range(rows)], "normal")


def wait(guide) -> None:
    end = time.monotonic() + PATIENCE
    guide.look()
    while guide.working:
        assert time.monotonic() < end, guide.course.log.read_text()
        time.sleep(0.1)
        guide.look()


def test_from_labels_to_heat(guide, workbench, tmp_path) -> None:
    assert guide.steps()[0].text == "Open a slide first."
    heat = opened(guide, workbench, halves(tmp_path / "a.png", 1))
    assert standings(guide) == {
        "label": "ready",
        "classifier": "waits",
        "heat": "waits",
        "outlines": "waits",
        "predict": "waits",
    }
    with pytest.raises(InputError, match="label at least 5 of each"):
        guide.train(64, 2)
    controller = workbench.controller
    label_halves(controller, rows=4)
    assert guide.counts == (24, 24)
    assert step(guide, "label").text.startswith("24 tumour, 24 normal. Enough to try it out")
    assert standings(guide)["classifier"] == "ready"

    said, news = [], []
    guide.said.connect(said.append)
    guide.models_changed.connect(lambda: news.append(1))
    guide.train(64, 2)
    assert standings(guide)["classifier"] == "running"
    assert step(guide, "classifier").action in ("Pause", "")
    with pytest.raises(InputError, match="is running"):
        guide.train(64, 2)
    # Another window finds it.
    other = Guide(workbench, guide.jobs, type(guide._launcher)())
    other.choose(guide.base)
    assert other.course == guide.course
    wait(guide)
    assert guide._shown.state == "finished", guide.course.log.read_text()
    assert news
    assert "The classifier is right about" in said[-1]
    card = workbench.registry.get(guide.model)
    assert (card.name, card.window_px, card.mpp) == ("ep-sam-a", 64, 0.5)
    assert standings(guide) == {
        "label": "done",
        "classifier": "done",
        "heat": "ready",
        "outlines": "ready",
        "predict": "waits",
    }

    # What was chosen can be chosen still, for a further one.
    assert guide.base in patch_bases(workbench.registry)

    # The heat of what is in view, with a threshold that leaves less the higher it is.
    controller.look_at(480, 224, 544, 288)
    heat.show(guide.model).future.result(PATIENCE)
    cells = np.array(heat._wanted)
    assert f"of {len(cells)} patches in view" in heat.text
    assert 4 <= len(cells) <= MOST
    assert standings(guide)["heat"] == "done"
    layer = workbench.viewer.layers["Heat"]
    columns, rows = np.ptp(cells, axis=0) + 1
    assert layer.data.shape == (64 * rows, 64 * columns)
    warm = [np.count_nonzero(layer.data)]
    assert heat.percentile == 10
    for percentile in (30.0, 60.0):
        heat.set_percentile(percentile)
        warm.append(np.count_nonzero(layer.data))
    assert warm[0] > warm[1] > warm[2]
    # A px lies where the slide has it.
    corner = controller.patches.grid.box(*cells.min(0))[:2]
    at = layer.world_to_data(controller.viewport.to_world(*corner))
    assert np.allclose(at, (-0.5, -0.5), atol=1e-6)

    # What is asked for next is what was chosen; the command gets it.
    guide.agreement = 0.8
    guide.course.go_on(heat.percentile, guide.agreement)
    line = guide.course.patch_order.train_arguments(guide.course.data, guide.course.run)
    asked = " ".join(line)
    assert "--percentile 60" in asked
    assert "--agreement 0.8" in asked
    assert "--until" not in line
    heat.hide()
    assert "Heat" not in workbench.viewer.layers
    # A closed program finds all of it again, also by the model that was made.
    again = Guide(workbench, guide.jobs, guide._launcher)
    again.choose(next(one for one in patch_bases(workbench.registry) if one.model == "ep-sam-a"))
    assert again.course == guide.course
    assert again.model == "ep-sam-a"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_the_way_to_outlines(guide, workbench, tmp_path) -> None:
    opened(guide, workbench, halves(tmp_path / "a.png", 1))
    label_halves(workbench.controller, rows=2)
    guide.train(64, 1)
    wait(guide)
    guide.outlines()
    assert step(guide, "outlines").standing == "running"
    assert step(guide, "classifier").standing == "done"
    guide.pause()
    wait(guide)
    assert (step(guide, "outlines").standing, step(guide, "outlines").action) == (
        "halted",
        "Resume",
    )
    guide.resume()
    wait(guide)
    assert guide._shown.state == "finished", guide.course.log.read_text()
    assert standings(guide)["outlines"] == "done"
    assert step(guide, "predict").action == "Go to Automate"
    assert guide.model == "ep-sam-a"


def order(**more) -> PatchOrder:
    wanted = {
        "sources": (),
        "slides": ("a.svs",),
        "tumour": 9,
        "normal": 9,
        "key": "new:histosam-small",
        "model": "ep-sam-on-histosam-small",
        "base": "histosam-small",
        "name": "ep-sam-a",
        "size": 64,
        "pixels": 64,
        "mpp": 0.5,
    }
    return PatchOrder(**{**wanted, **more})


def test_orders_are_read_as_they_were_written(workbench) -> None:
    made = begin_patches(order(threads=2))
    assert patch_courses() == [made]
    assert made.patch_order == order(threads=2)
    lines = made.patch_order.model_arguments(workbench.registry)
    assert [line[2:6] for line in lines] == [
        ["sam", "--base", "histosam-small", "--name"],
        ["ep-sam", "--base", "sam-on-histosam-small", "--name"],
    ]
    assert order(base="").model_arguments(workbench.registry) == []
    made.write("order", {**order().record(), "strange": 1})
    with pytest.raises(InputError, match="cannot be read"):
        _ = made.patch_order


def test_how_a_training_stands_is_read_from_its_files(guide, workbench, tmp_path) -> None:
    opened(guide, workbench, halves(tmp_path / "a.png", 1))
    course = begin_patches(order())
    me = psutil.Process(os.getpid())
    at_work = {"pid": me.pid, "born": me.create_time()}
    course.write("course", {"stage": "train", "message": "", **at_work})
    course.run.mkdir()
    row = {"kind": "step", "step": 1, "steps": 2, "seconds": 1.0}
    (course.run / "progress.jsonl").write_text(json.dumps(row) + "\n")
    course.write("run/run", {"state": "running", "stage": "heat", "step": 3, "steps": 12})
    guide.choose(guide.base)
    found = step(guide, "classifier")
    assert (found.standing, found.fraction) == ("running", 0.25)
    assert found.text == "Making heat maps of the tumour patches: 25%."
    course.write("run/run", {"state": "running", "stage": "round 2", "step": 6, "steps": 12})
    course.write("order", order(until="").record())
    course.write("result", {"name": "ep-sam-a", "until": "classifier", "message": "Well."})
    guide.look()
    assert step(guide, "outlines").text == "Outlines, round 2: 50%."
    assert step(guide, "classifier").text == "Well."

    said = []
    guide.said.connect(said.append)
    course.write("course", {"stage": "failed", "message": "The disk is full."})
    guide.look()
    assert (step(guide, "outlines").standing, step(guide, "outlines").action) == (
        "failed",
        "Resume",
    )
    assert said == ["The disk is full."]
    course.write("course", {"stage": "train", "message": "", "pid": 0, "born": 0})
    guide.look()
    assert "ended from outside" in step(guide, "outlines").text


def test_a_command_that_fails_ends_the_course_with_its_words() -> None:
    course = PatchCourse(begin_patches(order()).path)
    asked, ended = [], []

    def command(line):
        asked.append(line[0])
        return (0, {"patches": 1}, "") if line[0] != "train" else (2, {}, "Too few patches.")

    status = patch_course.work(course, command, lambda *told: ended.append(told) or told[1])
    assert status == 2
    assert asked == ["models", "models", "patches", "train"]
    assert ended == [(course, 2, "Too few patches.")]
    assert course.reached == ""
    # Another try cuts nothing again; a run that learned nothing makes no model.
    asked.clear()
    nothing = {"state": "done", "message": "Nothing was learned."}
    patch_course.work(course, lambda line: asked.append(line[0]) or (0, nothing, ""), None)
    assert asked == ["models", "models", "train"]
    assert course.read("course")["message"] == "Nothing was learned."
    assert course.reached == ""
    # Paused by the user, then ended well.
    paused = {"state": "paused", "message": "Paused."}
    patch_course.work(course, lambda line: (0, paused, ""), None)
    assert course.read("course")["stage"] == "paused"
    done = {"state": "done", "name": "ep-sam-a", "message": "Good."}
    patch_course.work(course, lambda line: (0, done, ""), None)
    assert course.reached == "classifier"
