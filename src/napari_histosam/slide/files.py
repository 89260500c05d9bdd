"""Reads bytes at positions of one file from many threads, and reopens it once if it went away."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


class SharedFile:
    """A file that many threads read.

    Seeking and reading happen under a lock, decoding outside of it, so that threads wait for
    each other only while bytes are copied.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = object()
        self._lock = threading.Lock()
        self._file: BinaryIO | None = path.open("rb")
        self.size = path.stat().st_size

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly ``count`` bytes at ``offset``.

        Raises
        ------
        InputError
            Where the file ends before, is closed, or can no longer be read.
        """
        with self._lock:
            if self._file is None:
                raise InputError(f"{self.path.name} is closed; open it again.")
            try:
                data = self._read(self._file, offset, count)
            except OSError:
                # A network drive that came back has new handles: try once more with a fresh one.
                try:
                    self._file = self.path.open("rb")
                    data = self._read(self._file, offset, count)
                except OSError as error:
                    raise InputError(
                        f"{self.path} can no longer be read ({error.strerror or error});"
                        " check the drive and open it again."
                    ) from error
        if len(data) < count:
            raise InputError(
                f"{self.path.name} is cut short: it ends before its own data;"
                " copy it again from its source."
            )
        return data

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    @staticmethod
    def _read(file: BinaryIO, offset: int, count: int) -> bytes:
        file.seek(offset)
        return file.read(count)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
