"""Jobs: progress, results, errors and cancelling reach the owner."""

from __future__ import annotations

import queue
import threading

import pytest

from napari_histosam.errors import Cancelled, InputError
from napari_histosam.jobs import CancelToken, JobRunner, Progress


class Mailbox:
    """A dispatcher whose owner empties it by hand, as a window's event loop would."""

    def __init__(self) -> None:
        self.calls: queue.Queue = queue.Queue()

    def call(self, func):
        self.calls.put(func)

    def later(self, seconds, func):
        self.calls.put(func)

    def run_until(self, done: threading.Event) -> None:
        while not done.is_set():
            self.calls.get(timeout=10)()


@pytest.fixture
def box():
    return Mailbox()


@pytest.fixture
def runner(box):
    made = JobRunner(box)
    yield made
    made.close()


def watch(job):
    """Collect a job's signals; the event is set when it ends."""
    seen: list[tuple[str, object]] = []
    done = threading.Event()
    job.progressed.connect(lambda p: seen.append(("progress", p)))
    job.finished.connect(lambda r: (seen.append(("finished", r)), done.set()))
    job.failed.connect(lambda e: (seen.append(("failed", e)), done.set()))
    job.cancelled.connect(lambda: (seen.append(("cancelled", None)), done.set()))
    return seen, done


def test_progress_then_result_in_order(runner, box):
    def job(report, cancel):
        for i in range(3):
            report(Progress(i + 1, 3))
        return "written"

    seen, done = watch(runner.start("Writing", job))
    box.run_until(done)
    assert [kind for kind, _ in seen] == ["progress"] * 3 + ["finished"]
    assert seen[2][1].fraction == 1.0
    assert seen[-1][1] == "written"


def test_cancel_stops_at_the_next_safe_point(runner, box):
    reached = threading.Event()

    def job(report, cancel):
        reached.set()
        while True:
            cancel.check()

    running = runner.start("Endless", job)
    seen, done = watch(running)
    assert reached.wait(10)
    running.cancel()
    box.run_until(done)
    assert seen == [("cancelled", None)]


def test_errors_arrive_whole(runner, box):
    def job(report, cancel):
        raise InputError("No such file; choose another.")

    seen, done = watch(runner.start("Reading", job))
    box.run_until(done)
    assert str(seen[-1][1]) == "No such file; choose another."


def test_token_and_fraction():
    token = CancelToken()
    token.check()
    token.cancel()
    with pytest.raises(Cancelled):
        token.check()
    assert Progress(1).fraction is None
    assert Progress(5, 4).fraction == 1.0
