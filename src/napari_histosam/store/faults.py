"""Turns SQLite's errors into one sentence that says what happened and what to do."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SENTENCES = {
    sqlite3.SQLITE_FULL: (
        "The disk is full: this step was not kept in {where}, everything before it is; "
        "free some space and do it again."
    ),
    sqlite3.SQLITE_READONLY: (
        "{where} may not be written, so this step was not kept; "
        "make the file and its folder writable and do it again."
    ),
    sqlite3.SQLITE_PERM: "{where} may not be used; ask for the right to read and write it.",
    sqlite3.SQLITE_CANTOPEN: (
        "{where} cannot be opened; check that its folder is still there and may be written."
    ),
    sqlite3.SQLITE_IOERR: (
        "{where} cannot be read or written just now, so this step was not kept; "
        "check the drive or the network and do it again."
    ),
    sqlite3.SQLITE_BUSY: "{where} is in use by another program; close it there and try again.",
    sqlite3.SQLITE_LOCKED: "{where} is in use by another program; close it there and try again.",
    sqlite3.SQLITE_CORRUPT: (
        "{where} is damaged and was left as it is; restore it from a backup, "
        "or move it away to begin a new one."
    ),
    sqlite3.SQLITE_NOTADB: (
        "{where} is not a store of objects (not a SQLite file) and was left as it is; "
        "choose another file or move this one away."
    ),
}
_INPUT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def told_plainly(where: str) -> Iterator[None]:
    """Re-raise SQLite's errors as `InputError` or `HistosamError` with one sentence.

    Parameters
    ----------
    where : str
        The store's file as the user knows it.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        sentence = _SENTENCES.get(code)
        if sentence is None:
            if type(error) is sqlite3.DatabaseError and not code:
                code, sentence = sqlite3.SQLITE_CORRUPT, _SENTENCES[sqlite3.SQLITE_CORRUPT]
            else:
                raise
        kind = InputError if code in _INPUT else HistosamError
        raise kind(sentence.format(where=where)) from error
