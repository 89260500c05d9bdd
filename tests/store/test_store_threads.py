"""Reading on other threads while one edits."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_histosam.store import ObjectStore
from napari_histosam.store import connect as connect_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["wal", "delete", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr(connect_module, "on_network", lambda folder: request.param == "delete")
    path = None if request.param == "memory" else tmp_path / "a.sqlite"
    with ObjectStore.open(path) as store:
        assert store._db.journal_mode == request.param
        yield store
        assert store.integrity_check() == []


def test_iterating_sees_the_state_at_the_call(any_store: ObjectStore, make) -> None:
    store = any_store
    items = [make(i, 0) for i in range(50)]
    store.add(items)
    running = store.iterate(batch=7)
    store.delete([items[0].id, items[40].id])
    assert next(running) == items[0]
    store.update([replace(items[20], class_name="Tumor")])
    store.add([make(0, 0)])
    assert list(running) == items[1:]
    assert len(list(store.iterate())) == 49


def test_an_iteration_may_be_given_up_or_outlive_the_store(any_store: ObjectStore, make) -> None:
    any_store.add([make(i, 0) for i in range(50)])
    del [any_store.iterate()][0]
    running = any_store.iterate(batch=5)
    next(running)
    running.close()
    running = any_store.iterate(batch=5)
    any_store.add([make(0, 0)])
    assert len(list(running)) == 50


def test_many_readers_and_writers(any_store: ObjectStore, make) -> None:
    store = any_store
    store.add([make(i, 0, class_name="Tumor") for i in range(30)])
    wrong: list[object] = []
    finished = threading.Event()

    def read() -> None:
        try:
            while not finished.is_set():
                counts = store.counts_by_class()
                assert sum(counts.values()) % 30 == 0
                assert len(list(store.iterate())) % 30 == 0
                assert len(store.query((0, 0, 1000, 1000))) % 30 == 0
                store.rows(0, 10, "area")
        except BaseException as error:  # noqa: BLE001 (handed to the test's own thread)
            wrong.append(error)

    def write() -> None:
        try:
            for _ in range(15):
                ids = store.add([make(i, 5) for i in range(30)])
                store.delete(ids)
                store.add([make(i, 5) for i in range(30)])
        except BaseException as error:  # noqa: BLE001 (handed to the test's own thread)
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert len(store) == 30 + 2 * 15 * 30
    steps = 0
    while store.undo():
        steps += 1
    assert steps == 1 + 2 * 15 * 3


def test_changes_are_told_in_the_editing_thread(any_store: ObjectStore, make) -> None:
    threads: list[threading.Thread] = []
    any_store.changed.connect(lambda change: threads.append(threading.current_thread()))
    worker = threading.Thread(target=any_store.add, args=([make(0, 0)],))
    worker.start()
    worker.join()
    assert threads == [worker]
