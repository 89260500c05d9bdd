"""The serial worker: order by urgency, replacing, closing."""

from __future__ import annotations

import threading

import pytest

from napari_histosam.jobs import Priority, SerialWorker


@pytest.fixture
def worker():
    made = SerialWorker("test-worker")
    yield made
    made.close()


def block(worker: SerialWorker) -> threading.Event:
    """Keep the worker busy until the returned event is set."""
    gate, running = threading.Event(), threading.Event()

    def wait() -> None:
        running.set()
        gate.wait(10)

    worker.submit(wait)
    assert running.wait(10)
    return gate


def test_returns_results_and_hands_on_errors(worker):
    assert worker.submit(lambda: 42).result(10) == 42
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0).result(10)
    assert worker.submit(lambda: "still alive").result(10) == "still alive"


def test_urgent_goes_before_idle(worker):
    gate = block(worker)
    order: list[str] = []
    late = [
        worker.submit(lambda: order.append("idle"), priority=Priority.IDLE),
        worker.submit(lambda: order.append("normal")),
        worker.submit(lambda: order.append("urgent"), priority=Priority.URGENT),
    ]
    gate.set()
    for future in late:
        future.result(10)
    assert order == ["urgent", "normal", "idle"]


def test_a_burst_with_one_key_runs_only_the_last(worker):
    gate = block(worker)
    ran: list[int] = []
    futures = [worker.submit(lambda i=i: ran.append(i), replaces="prompt") for i in range(20)]
    gate.set()
    futures[-1].result(10)
    assert ran == [19]
    assert all(f.cancelled() for f in futures[:-1])


def test_close_cancels_what_waits_and_refuses_more(worker):
    gate = block(worker)
    waiting = worker.submit(lambda: None)
    gate.set()
    worker.close()
    assert waiting.cancelled() or waiting.done()
    assert worker.submit(lambda: None).cancelled()
    assert worker.idle
