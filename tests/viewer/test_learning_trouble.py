"""What goes wrong round a training: the app is killed, the disk is full, a file is damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_histosam.jobs import JobRunner
from napari_histosam.store import ObjectStore
from napari_histosam.store.places import beside
from napari_histosam.viewer.learning.course import begin, courses
from napari_histosam.viewer.learning.follow import Follower
from napari_histosam.viewer.learning.launcher import Launcher
from napari_histosam.viewer.learning.shelf import Shelf

APP = """
import json, sys, time
from napari_histosam.viewer.learning.course import begin
from napari_histosam.viewer.learning.launcher import Launcher
from napari_histosam.viewer.learning.order import Order
course = begin(Order.read(json.loads(sys.argv[1])))
Launcher().start(course)
print("started", flush=True)
time.sleep(300)
"""


def kept(slide: Path) -> list:
    with ObjectStore.open(beside(slide)) as store:
        assert store.integrity_check() == []
        return [(one.id, one.class_name, one.geometry.wkb) for one in store.iterate()]


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
def test_a_training_outlives_the_app_and_is_found_again(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    before = [kept(slide) for slide in slides]
    order = json.dumps(bench.order(*slides).record())
    app = subprocess.Popen([sys.executable, "-c", APP, order], stdout=subprocess.PIPE)
    assert app.stdout.readline() == b"started\n"
    os.kill(app.pid, signal.SIGKILL)
    app.wait()
    app.stdout.close()
    (course,) = courses()
    assert Follower(course, Launcher()).look().working
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "finished", shown.message
    assert [kept(slide) for slide in slides] == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_and_gone_on_from(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    course = begin(bench.order(*slides))
    course.run.mkdir()
    rows = course.run / "progress.jsonl"
    rows.symlink_to("/dev/full")
    bench.launcher.start(course)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "failed"
    assert "No space left" in shown.message
    assert "make room" in shown.message
    assert "Resume" in shown.message
    assert "command" not in shown.message
    assert "\n" not in shown.message
    # Room was made.
    rows.unlink()
    bench.launcher.start(course)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "finished", shown.message


def test_a_damaged_file_among_the_chosen_is_named_and_the_others_stay(bench):
    slides = [bench.field(f"{name}.png", n) for n, name in enumerate("abc")]
    jobs = JobRunner(threads=1)
    shelf, said = Shelf(jobs), []
    shelf.said.connect(said.append)
    shelf.add(slides).future.result(20)
    assert len(shelf.chosen) == 3
    before = [kept(slide) for slide in slides[:2]]
    spare = shutil.copy(beside(slides[2]), bench.root / "spare")
    # The store was damaged since the list was made: the list says so, the others stay in it.
    data = bytearray(beside(slides[2]).read_bytes())
    data[:4096] = os.urandom(4096)
    beside(slides[2]).write_bytes(data)
    shelf.read().future.result(20)
    jobs.close()
    assert [one.name for one in shelf.chosen] == ["a.png", "b.png"]
    assert len(said) == 1
    assert "c.png" in said[0]
    # And so does a training that had it among its slides, and one whose slide is cut short.
    for damage in ("store", "slide"):
        if damage == "slide":
            shutil.copy(spare, beside(slides[2]))
            slides[2].write_bytes(slides[2].read_bytes()[:2000])
        course = bench.begin(*slides)
        shown = bench.until(course, lambda shown: not shown.working)
        assert shown.state == "failed"
        assert "c.png" in shown.message
        assert "Traceback" not in shown.message
        assert "\n" not in shown.message
        assert [kept(slide) for slide in slides[:2]] == before
