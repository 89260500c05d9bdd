"""Write files whole or not at all, read them within limits, and say in one sentence what failed."""

from __future__ import annotations

import contextlib
import errno
import gc
import gzip
import os
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_LIMIT = 2 * 1024**3
"""Bytes that an import reads at most (after unpacking), unless told otherwise."""


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder and put it in place at the end.

    The body creates, fills and closes the file. After an error the temporary file is removed
    and what stood at ``path`` before stands there still.

    Parameters
    ----------
    path : Path
        The target.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    InputError
        If the folder is gone or read-only, the disk is full, or the target cannot be replaced.
    """
    with new_files(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def new_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Do as `new_file` for files that belong together: none is put in place until all are whole."""
    targets = [Path(path) for path in paths]
    for target in targets:
        _check_target(target)
    mark = uuid.uuid4().hex[:8]
    temporary = tuple(t.with_name(f".{t.name[:80]}.{mark}.tmp") for t in targets)
    try:
        with explained(targets[0], "write"):
            yield temporary
            for part in temporary:
                _sync(part)
            for part, target in zip(temporary, targets, strict=True):
                os.replace(part, target)
            _sync_folder(targets[0].parent)
    finally:
        for part in temporary:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's errors into one sentence with the path and what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(_sentence(error, path, doing)) from error


def open_text_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacked if it is gzip (told by content, not by suffix)."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    with explained(path, "read"):
        raw = path.open("rb")
        packed = raw.read(2) == b"\x1f\x8b"
        if packed:
            raw.close()
            return cast("IO[bytes]", gzip.open(path, "rb"))
        raw.seek(0)
        return raw


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Hold the cyclic garbage collector while very many objects without cycles are made.

    It would walk all of them again and again, which takes longer than reading the file.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file in it.")
    if not target.parent.is_dir():
        raise InputError(f"The folder {target.parent} is not there; choose another one.")


def _sentence(error: OSError, path: Path, doing: str) -> str:
    code = error.errno
    if isinstance(error, gzip.BadGzipFile):
        return f"Cannot {doing} {path}: it is not a whole gzip file; copy it again."
    if isinstance(error, FileNotFoundError):
        if doing == "read":
            return f"Cannot read {path}: there is no such file; check the name."
        return f"Cannot write {path}: its folder has gone; choose another one."
    if isinstance(error, PermissionError) or code == errno.EROFS:
        return (
            f"Cannot {doing} {path}: no permission, or another program holds it; "
            "close it there or choose another folder."
        )
    if code in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC):
        return f"Cannot {doing} {path}: the disk is full; free some space or choose another one."
    if code == errno.EFBIG:
        return f"Cannot {doing} {path}: the file grew beyond what the disk allows; write less."
    return f"Cannot {doing} {path}: {error.strerror or error}; check the disk and try again."


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the renaming durable where the system can (Windows has no folder handles)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
