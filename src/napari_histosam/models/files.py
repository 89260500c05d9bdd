"""Whole files or none: atomic writing and copying; content hashes, remembered while unchanged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import Cancelled, HistosamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_CHUNK = 1 << 20


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well.

    Raises
    ------
    HistosamError
        If the folder cannot be written or the disk is full; the old file stays whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise HistosamError(_cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise HistosamError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside ``path`` that takes its place when the block ends well.

    Raises
    ------
    HistosamError
        If ``path`` holds something, it cannot be written or the disk is full.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()  # an empty one: not every system puts a folder into another one's place
        os.replace(temporary, path)
    except OSError as error:
        raise HistosamError(_cannot_write(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all."""
    with atomic_file(path) as out:
        out.write(data)


def copy_atomic(
    source: Path, target: Path, cancel: Callable[[], bool] | None = None
) -> tuple[int, str]:
    """Copy a file whole or not at all; return its size in bytes and its SHA-256."""
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as read, atomic_file(target) as out:
        while chunk := read.read(_CHUNK):
            if cancel is not None and cancel():
                raise Cancelled(f"Copying {source.name} was stopped.")
            digest.update(chunk)
            out.write(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file's content.

    Parameters
    ----------
    path : Path
    algorithm : {"sha256", "xxh128"}

    Returns
    -------
    str
        Hexadecimal digits.
    """
    digest: Any
    if algorithm == "xxh128":
        import xxhash

        digest = xxhash.xxh128()
    elif algorithm == "sha256":
        digest = hashlib.sha256()
    else:
        raise ValueError(f"unknown hash {algorithm!r}")
    with path.open("rb") as read:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())


class HashMemory:
    """Content hashes of large files, remembered as long as size and time stay the same.

    Parameters
    ----------
    path : Path
        JSON file that keeps them; losing it costs time, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file, from memory if the file has not changed."""
        state = path.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        key = str(path.resolve())
        known = self._read()
        entry = known.get(key)
        if isinstance(entry, list) and entry[:2] == stamp:
            return str(entry[2])
        digest = file_hash(path)
        known = {k: v for k, v in self._read().items() if Path(k).exists()}
        known[key] = [*stamp, digest]
        # A home that cannot be written costs the next start a second, not this one its model.
        with contextlib.suppress(HistosamError):
            write_bytes_atomic(self._path, json.dumps(known, indent=1).encode())
        return digest

    def _read(self) -> dict[str, list[object]]:
        try:
            data = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full: {path.name} was not written to {path.parent}; make room first."
    reason = error.strerror or str(error)
    return f"{path} cannot be written ({reason}): choose another folder or free this one."
