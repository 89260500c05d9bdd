"""Opens SQLite connections with the settings that make a store safe on each kind of drive."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from napari_histosam.errors import InputError
from napari_histosam.store import schema
from napari_histosam.store.drives import on_network

IMMUTABLE: Final = "immutable"
"""Stands for SQLite's journal mode where a write-protected file is read as it is."""

_WAIT_S = 10.0  # how long to wait for another connection's commit
_UNWRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def connect(target: str, *, uri: bool = False) -> sqlite3.Connection:
    """Open a connection with this project's settings, for use by one thread at a time."""
    con = sqlite3.connect(
        target, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, uri=uri
    )
    con.row_factory = sqlite3.Row
    try:
        con.execute("PRAGMA synchronous = FULL")
        con.execute("PRAGMA fullfsync = ON")  # macOS: reach the platter, as elsewhere
        con.execute("PRAGMA checkpoint_fullfsync = ON")
        con.execute("PRAGMA foreign_keys = ON")
        con.execute("PRAGMA trusted_schema = OFF")  # a file handed in runs nothing of its own
        con.execute("PRAGMA cache_size = -16384")
        con.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        con.close()
        raise
    return con


def open_read_only(path: Path) -> tuple[sqlite3.Connection, str]:
    """Open a store that shall only be read; return the connection and the journal mode.

    Raises
    ------
    InputError
        The file is not there, or cannot be read without being repaired.
    """
    if not path.exists():
        raise InputError(f"{path} is not there yet; wait for the other window and try again.")
    if _at_rest(path):
        return open_reader(path, immutable=True), IMMUTABLE
    con = open_reader(path, immutable=False)
    try:
        mode = str(con.execute("PRAGMA journal_mode").fetchone()[0])
        con.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return con, mode
    except sqlite3.OperationalError as error:
        con.close()
        if error.sqlite_errorcode & 0xFF not in _UNWRITABLE:
            raise
        raise InputError(
            f"{path} was not closed properly and its folder is read-only; copy it and "
            f"{path.name}-wal to a folder that may be written."
        ) from error
    except BaseException:
        con.close()
        raise


def open_reader(path: Path, *, immutable: bool) -> sqlite3.Connection:
    """Open a connection that refuses to write."""
    con = connect(_uri(path), uri=True) if immutable else connect(str(path))
    con.execute("PRAGMA query_only = ON")
    return con


def set_journal(con: sqlite3.Connection, path: Path) -> str:
    """Choose WAL, or the rollback journal where the drive cannot share memory."""
    if not on_network(path.parent):
        try:
            mode = str(con.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            if mode == "wal":
                con.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return mode
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code not in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}:
                raise
    return str(con.execute("PRAGMA journal_mode = DELETE").fetchone()[0])


def may_write(path: Path) -> bool:
    """Tell whether the system lets us write a file or folder (Windows: the attribute alone)."""
    if os.access in os.supports_effective_ids:
        return os.access(path, os.W_OK, effective_ids=True)
    return os.access(path, os.W_OK)


def _at_rest(path: Path) -> bool:
    """Tell whether a store may only be read here, and no other process has it open.

    SQLite would leave write-protected side files behind, or fail for want of them; it needs none
    if told that the file will not change.
    """
    protected = not (may_write(path) and may_write(path.parent))
    return protected and not Path(f"{path}-wal").exists()


def try_writing(con: sqlite3.Connection) -> None:
    """Raise SQLite's read-only error if the file is write-protected; change nothing."""
    con.execute("BEGIN IMMEDIATE")  # by itself this passes on a write-protected file
    try:
        con.execute(f"PRAGMA user_version = {schema.version(con)}")
    finally:
        if con.in_transaction:
            con.execute("ROLLBACK")


def _uri(path: Path) -> str:
    """Return the URI of a file that will not change; for network shares (``//srv/x``) too."""
    place = quote(path.absolute().as_posix())
    return f"file:{'//' if place.startswith('/') else '///'}{place}?immutable=1"
