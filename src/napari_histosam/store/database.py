"""One store file and its connections: one writer behind a lock, readers of their own."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.store import schema
from napari_histosam.store.connect import (
    IMMUTABLE,
    connect,
    may_write,
    open_read_only,
    open_reader,
    set_journal,
    try_writing,
)
from napari_histosam.store.faults import told_plainly
from napari_histosam.store.lock import LockUnsupported, WriterLock

if TYPE_CHECKING:
    from collections.abc import Iterator

_IDLE_READERS = 4


class Database:
    """The connections to one store file.

    Parameters
    ----------
    path : Path, optional
        The file; None keeps everything in memory.
    owner : str
        Named in the lock's side file, so that a second window can say who writes.

    Notes
    -----
    On a local drive the file is in WAL mode: readers on other threads have their own connections
    and see the last committed state while a writer works. In memory and on network drives (where
    WAL must not be used, https://www.sqlite.org/wal.html) all threads share one connection in
    turn, and a long read works on a copy.
    Every commit is flushed to the drive before it returns (``synchronous=FULL``).
    """

    def __init__(self, path: Path | None, owner: str = "") -> None:
        self.path = path
        self.where = str(path) if path else "The store in memory"
        self.read_only_reason: str | None = None
        self.created = False
        self._guard = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._lock = WriterLock(Path(f"{path}.lock"), owner) if path else None
        with told_plainly(self.where):
            self._check_file()
            self.read_only_reason = self._claim()
            self._main = self._open_or_release()

    @property
    def read_only(self) -> bool:
        """Whether edits are refused."""
        return self.read_only_reason is not None

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction; on leaving it is on the drive, on an error nothing of it is.

        Raises
        ------
        InputError
            The store is read-only; the text is the reason.
        HistosamError
            The drive is full or gone; the text says so.
        """
        with self._guard, told_plainly(self.where):
            self._check_open()
            if self.read_only_reason:
                raise InputError(self.read_only_reason)
            con = self._main
            con.execute("BEGIN IMMEDIATE")
            try:
                yield con
                con.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors (a full disk, for one).
                if con.in_transaction:
                    con.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection in which several reads see the same state."""
        with told_plainly(self.where):
            if not self.shared:
                con = self._borrow()
                try:
                    con.execute("BEGIN")
                    yield con
                finally:
                    self._give_back(con)
                return
            with self._guard:
                self._check_open()
                yield self._main

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose state stays as it is now, however long it is read."""
        if not self.shared:
            with self.read() as con:
                con.execute("SELECT 1 FROM meta").fetchone()  # the state is fixed by a first read
                yield con
            return
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            with told_plainly(self.where), self._guard:
                self._check_open()
                self._main.backup(copy)
            copy.row_factory = sqlite3.Row
            yield copy
        finally:
            copy.close()

    @property
    def shared(self) -> bool:
        """Whether all threads share one connection (no WAL)."""
        return self._mode not in ("wal", IMMUTABLE)

    @property
    def journal_mode(self) -> str:
        """``wal``, ``delete`` (network drives), ``memory``, or ``immutable`` (write-protected)."""
        return self._mode

    def become_writer(self) -> bool:
        """Take the writer's lock if the other window has gone; return whether edits are allowed."""
        with self._guard, told_plainly(self.where):
            self._check_open()
            if not self.read_only:
                return True
            if self._claim() is not None:
                return False
            # A connection that was opened without the right to write would stay so beside it.
            self._main.close()
            self._drop_idle()
            self.read_only_reason = None
            try:
                self._main = self._open_or_release()
            except BaseException:
                self._closed = True
                raise
            return not self.read_only

    def data_version(self) -> int:
        """Return a number that changes when another process commits."""
        with self._guard, told_plainly(self.where):
            self._check_open()
            return int(self._main.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close all connections and give the lock back; a second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._drop_idle()
            self._main.close()
            if self._lock:
                self._lock.release()

    # --- opening ---------------------------------------------------------------------------

    def _check_file(self) -> None:
        # The content is judged by SQLite alone: on POSIX, our closing a second handle to the file
        # would drop the locks of another window in this process.
        if self.path and self.path.is_dir():
            raise InputError(f"{self.path} is a folder, not a store of objects; choose a file.")

    def _claim(self) -> str | None:
        """Take the writer's lock; return None, or why this window cannot write."""
        if self._lock is None or self.path is None:
            return None
        if self.path.exists() and not may_write(self.path):
            return f"{self.path} is write-protected, so its objects can be looked at only."
        try:
            if self._lock.acquire():
                return None
        except LockUnsupported:
            reason = f"The drive of {self.path} cannot lock files, so its objects can be looked at "
            return reason + "only; copy the slide and its store to another drive to edit them."
        except OSError as error:
            if not self.path.parent.is_dir():
                raise InputError(
                    f"The folder {self.path.parent} is not there; check the path."
                ) from error
            if not self.path.exists():
                raise InputError(
                    f"No file can be made in {self.path.parent} ({error.strerror}); "
                    "choose another folder for the objects."
                ) from error
            return f"The folder of {self.path} is read-only, so its objects can be looked at only."
        holder = self._lock.holder()
        return (
            "The objects of this slide are open in another window"
            f"{f' ({holder})' if holder else ''}, so they can be looked at but not changed here; "
            "close the other window to edit them."
        )

    def _open_or_release(self) -> sqlite3.Connection:
        """Open the main connection; keep the writer's lock only if the file can be written."""
        try:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                code = error.sqlite_errorcode & 0xFF
                if self.read_only or code != sqlite3.SQLITE_READONLY or not self._lock:
                    raise
                self._lock.release()
                self.read_only_reason = (
                    f"{self.where} is write-protected, so its objects can be looked at only."
                )
                return self._open()
        except BaseException:
            if self._lock:
                self._lock.release()
            raise

    def _open(self) -> sqlite3.Connection:
        self._mode = "memory"
        if self.path is None:
            con = connect(":memory:")
        elif self.read_only:
            con, self._mode = open_read_only(self.path)
        else:
            con = connect(str(self.path))
        try:
            schema.check_ours(con, self.where)
            if self.read_only and schema.version(con) < len(schema.STEPS):
                raise InputError(
                    f"{self.where} is empty or of an older version and must first be brought up to "
                    "date; open it once where it may be written."
                )
            if not self.read_only:
                if self.path is not None:
                    self._mode = set_journal(con, self.path)
                self.created = schema.migrate(con)
                try_writing(con)
            con.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()
        except BaseException:
            con.close()
            raise
        return con

    # --- readers ---------------------------------------------------------------------------

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        assert self.path is not None  # a store in memory has no readers of its own
        return open_reader(self.path, immutable=self._mode == IMMUTABLE)

    def _give_back(self, con: sqlite3.Connection) -> None:
        if con.in_transaction:
            con.execute("ROLLBACK")
        with self._guard:
            if not self._closed and len(self._idle) < _IDLE_READERS:
                self._idle.append(con)
                return
        con.close()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _check_open(self) -> None:
        if self._closed:
            raise HistosamError(f"{self.where} is closed; open the slide again.")
