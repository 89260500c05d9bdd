"""What a run keeps beside its map until it ends: how far it came, and windows not yet blended."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import explained
from napari_histosam.store.lock import LockUnsupported, WriterLock

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

FOLDER = ".run"
_JOURNAL = "done.json"


class Scratch:
    """The folder of a run under way, inside its map's; one process at a time has it.

    Parameters
    ----------
    folder : Path
        The map's.
    shape : tuple of int
        Of a window's probabilities: kinds, height, width.

    Raises
    ------
    InputError
        If another process runs there, or it cannot be written.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self._map = folder
        self._folder = folder / FOLDER
        self._shape = shape
        with explained(folder, "write"):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock: WriterLock | None = WriterLock(self._folder / "lock")
            try:
                got = self._lock.acquire()
            except LockUnsupported:
                got, self._lock = True, None
        if not got:
            raise InputError(f"{folder} is being written by another run; wait until it has ended.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def done(self) -> int:
        """How many tiles are done; they are done in order."""
        path = self._folder / _JOURNAL
        if not path.exists():
            return 0
        with explained(path, "read"):
            return int(json.loads(path.read_text("utf-8"))["done"])

    def note(self, done: int) -> None:
        """Note how many tiles are done; their chunks must be on disk."""
        self._put(self._folder / _JOURNAL, json.dumps({"done": done}).encode())

    def keep(self, number: int, likely: NDArray[np.uint16]) -> None:
        """Keep a tile until its last neighbour is done."""
        self._put(self._tile(number), np.ascontiguousarray(likely).tobytes())

    def read(self, number: int) -> NDArray[np.uint16]:
        """Return a tile that was kept."""
        with explained(self._tile(number), "read"):
            return np.memmap(self._tile(number), np.uint16, "r", shape=self._shape)

    def kept(self) -> list[int]:
        """Return the numbers of the tiles that are kept."""
        return sorted(int(path.stem) for path in self._folder.glob("*.tile"))

    def drop(self, number: int) -> None:
        """Forget a tile."""
        self._tile(number).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the map is complete."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        with explained(self._map, "write"):
            shutil.rmtree(self._folder)

    def _tile(self, number: int) -> Path:
        return self._folder / f"{number}.tile"

    def _put(self, path: Path, data: bytes) -> None:
        part = path.with_suffix(".part")
        with explained(self._map, "write"):
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)


def is_begun(folder: Path) -> bool:
    """Tell whether a run has begun in a folder and not ended."""
    return (folder / FOLDER).is_dir()


def sweep(folder: Path) -> None:
    """Remove what a run left that was killed after its map was complete."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
