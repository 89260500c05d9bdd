"""One window writes, a second one looks; who may do what, and what each is told."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.store import Change, ObjectStore
from napari_histosam.store import connect as connect_module
from napari_histosam.store import lock as lock_module
from napari_histosam.store.lock import LockUnsupported, WriterLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHER = """
import sys, shapely
from pathlib import Path
from napari_histosam.records import SlideObject
from napari_histosam.store import ObjectStore
store = ObjectStore.open(Path(sys.argv[1]), author="Ada")
print("open", flush=True)
for line in sys.stdin:
    store.add([SlideObject(shapely.box(0, 0, 1, 1), id=line.strip())])
    print("kept", flush=True)
"""


class Window:
    """The same store in another process."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "open"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def add(self, key: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(key + "\n")
        self.process.stdin.flush()
        assert self.answer() == "kept"


@contextmanager
def other_window(path: Path) -> Iterator[Window]:
    window = Window(path)
    try:
        yield window
    finally:
        window.process.kill()
        window.process.wait()
        for pipe in (window.process.stdin, window.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(params=["wal", "delete"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Path:
    """A store's path, on a local drive and on (what we take for) a network drive."""
    path = tmp_path / "ä slide%20.svs.histosam.sqlite"
    if request.param == "delete":
        monkeypatch.setattr(connect_module, "on_network", lambda folder: True)
        with ObjectStore.open(path) as store:
            assert store._db.journal_mode == "delete"
            # The other process believes the drive is local, so keep it from switching.
        monkeypatch.setitem(globals(), "OTHER", NO_WAL + OTHER)
    return path


NO_WAL = """
from napari_histosam.store import connect
connect.on_network = lambda folder: True
"""


def test_a_second_process_reads_only_until_the_first_has_died(path: Path, make) -> None:
    with other_window(path) as window:
        with ObjectStore.open(path) as store:
            assert store.read_only
            assert store.read_only_reason is not None
            assert "another window (Ada on" in store.read_only_reason
            assert f"process {window.process.pid}" in store.read_only_reason
            told: list[Change] = []
            store.changed.connect(told.append)
            assert not store.refresh()
            window.add("theirs")
            assert store.refresh()
            assert [change.reset for change in told] == [True]
            assert not store.refresh()
            assert store.ids() == ["theirs"]
            for call in (
                lambda: store.add([make(0, 0)]),
                store.undo,
                lambda: store.set_setting("a", 1),
                lambda: store.delete_class("Tumor"),
            ):
                with pytest.raises(InputError, match="another window"):
                    call()
            assert not store.can_undo
            assert store.undo_label == "Add"
            assert not store.become_writer()
            window.process.kill()
            window.process.wait()
            assert store.become_writer()
            assert store.become_writer()
            assert len(told) == 2
            store.add([make(5, 5, id="mine")])
            assert store.ids() == ["theirs", "mine"]
            assert store.integrity_check() == []
        with ObjectStore.open(path) as store:
            assert not store.read_only
            assert store.undo() is not None


def test_a_second_window_of_the_same_process_reads_only(path: Path, make) -> None:
    with ObjectStore.open(path) as first, ObjectStore.open(path) as second:
        assert (first.read_only, second.read_only) == (False, True)
        first.add([make(0, 0)])
        assert len(second) == 1
        first.close()
        assert second.become_writer()
        second.add([make(0, 0)])
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_a_closed_store_says_so(path: Path, make) -> None:
    store = ObjectStore.open(path)
    store.close()
    store.close()
    for call in (lambda: store.add([make(0, 0)]), store.ids, store.become_writer):
        with pytest.raises(HistosamError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LockUnsupported(95, "Operation not supported"), "cannot lock files"),
        (PermissionError(13, "Permission denied"), "read-only"),
    ],
)
def test_where_nothing_can_be_locked_a_store_is_only_looked_at(
    path: Path, make, monkeypatch, error: OSError, words: str
) -> None:
    with ObjectStore.open(path) as store:
        store.add([make(0, 0)])

    def refuse(self: WriterLock) -> bool:
        raise error

    monkeypatch.setattr(WriterLock, "acquire", refuse)
    with ObjectStore.open(path) as store:
        assert store.read_only_reason is not None
        assert words in store.read_only_reason
        assert len(store) == 1
    with pytest.raises(InputError):
        ObjectStore.open(path.with_name("new.sqlite"))


def test_the_lock_is_free_again_and_leaves_no_file(tmp_path: Path) -> None:
    first, second = (WriterLock(tmp_path / "a.lock", name) for name in ("Ada", "Grace"))
    for _ in range(3):
        assert first.acquire()
        assert first.acquire()
        assert not second.acquire()
        assert second.holder().startswith("Ada on ") or sys.platform == "win32"
        first.release()
        first.release()
        assert second.acquire()
        assert not first.acquire()
        second.release()
        assert list(tmp_path.iterdir()) == []


def test_a_lock_file_left_by_a_crash_does_no_harm(tmp_path: Path, make) -> None:
    path = tmp_path / "a.sqlite"
    (tmp_path / "a.sqlite.lock").write_text("someone on elsewhere, process 1")
    with ObjectStore.open(path) as store:
        store.add([make(0, 0)])


def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(
    tmp_path: Path, monkeypatch
) -> None:
    """The last owner removes the file after we have opened it and before we lock it."""
    path = tmp_path / "a.lock"
    real, removed = lock_module._lock, []

    def remove_then_lock(fd: int) -> bool:
        if not removed:
            removed.append(path.unlink())
        return real(fd)

    if sys.platform == "win32":
        pytest.skip("an open file cannot be removed on Windows")
    monkeypatch.setattr(lock_module, "_lock", remove_then_lock)
    first, second = WriterLock(path), WriterLock(path)
    assert first.acquire()
    assert path.exists()
    assert not second.acquire()
    first.release()
