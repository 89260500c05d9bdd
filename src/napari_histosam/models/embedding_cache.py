"""Remembers embeddings of windows in memory and on disk, both within a byte limit.

Floating arrays are kept as float16: masks decoded from them hardly differ (bfloat16, which has
fewer digits, changes more of them).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import HistosamError
from napari_histosam.models.files import atomic_file
from napari_histosam.models.protocols import Embedding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)
_SIZE = "__size__"
_FORMAT = 1
_HALF_MAX = float(np.finfo(np.float16).max)


class EmbeddingCache:
    """A two-level cache of embeddings, least recently used out first; safe from many threads.

    Parameters
    ----------
    folder : Path, optional
        Where the disk level lies; None keeps everything in memory.
    ram_bytes, disk_bytes : int
        Limits of the two levels.
    """

    def __init__(
        self, folder: Path | None, ram_bytes: int = 1 << 29, disk_bytes: int = 4 << 30
    ) -> None:
        self._folder = folder
        self._ram_limit = ram_bytes
        self._disk_limit = disk_bytes
        self._ram: OrderedDict[str, Embedding] = OrderedDict()
        self._ram_bytes = 0
        self._disk: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.RLock()
        self._warned = False
        if folder is not None:
            self._scan(folder)

    @staticmethod
    def key(slide_identity: str, weights_hash: str, window: Mapping[str, Any]) -> str:
        """Return the key of one window of one slide under one set of weights (64 hex digits)."""
        parts = [_FORMAT, slide_identity, weights_hash, dict(window)]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def ram_bytes(self) -> int:
        """Bytes held in memory."""
        with self._lock:
            return self._ram_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes held on disk."""
        with self._lock:
            return sum(self._disk.values())

    def get(self, key: str) -> Embedding | None:
        """Return an embedding, or None if it is not there (or its file is damaged)."""
        with self._lock:
            found = self._ram.get(key)
            if found is not None:
                self._ram.move_to_end(key)
                return found
        found = self._read(key)
        if found is not None:
            with self._lock:
                self._remember(key, found)
        return found

    def put(self, key: str, embedding: Embedding) -> Embedding:
        """Keep an embedding.

        Returns
        -------
        Embedding
            As it is kept (float16). Decode from this one, so that the first answer and later
            ones from the cache are the same.
        """
        kept = Embedding({k: _half(v) for k, v in embedding.arrays.items()}, embedding.size)
        with self._lock:
            self._remember(key, kept)
        self._write(key, kept)
        return kept

    def clear(self) -> None:
        """Forget everything, on disk too."""
        with self._lock:
            self._ram.clear()
            self._ram_bytes = 0
            for key in list(self._disk):
                self._drop(key)

    def _remember(self, key: str, embedding: Embedding) -> None:
        old = self._ram.pop(key, None)
        self._ram_bytes -= 0 if old is None else old.nbytes
        if embedding.nbytes > self._ram_limit:
            return
        self._ram[key] = embedding
        self._ram_bytes += embedding.nbytes
        while self._ram_bytes > self._ram_limit:
            _, out = self._ram.popitem(last=False)
            self._ram_bytes -= out.nbytes

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.npz"

    def _scan(self, folder: Path) -> None:
        found = []
        with contextlib.suppress(OSError):
            for path in folder.glob("*.npz"):
                state = path.stat()
                found.append((state.st_mtime_ns, path.stem, state.st_size))
            for path in folder.glob(".*.tmp"):  # of a run that was killed while it wrote
                if path.stat().st_mtime < _an_hour_ago():
                    path.unlink(missing_ok=True)
        for _, key, size in sorted(found):
            self._disk[key] = size
        self._trim()

    def _read(self, key: str) -> Embedding | None:
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            # Opened here: numpy leaves a damaged file open, and Windows then cannot remove it.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            width, height = (int(n) for n in arrays.pop(_SIZE))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("Damaged cache file %s dropped (%s)", path, error)
            with self._lock:
                self._drop(key)
            return None
        with self._lock:
            if key in self._disk:
                self._disk.move_to_end(key)
        return Embedding(arrays, (width, height))

    def _write(self, key: str, embedding: Embedding) -> None:
        if self._folder is None or embedding.nbytes > self._disk_limit:
            return
        path = self._path(key)
        arrays = {**embedding.arrays, _SIZE: np.array(embedding.size, np.int64)}
        try:
            with atomic_file(path) as out:
                np.savez(out, **arrays)  # type: ignore[arg-type]
            size = path.stat().st_size
        except (HistosamError, OSError) as error:
            # The cache saves time; work goes on without it.
            if not self._warned:  # and not for every window
                _log.warning("Embeddings are kept in memory only: %s", error)
            self._warned = True
            return
        with self._lock:
            self._disk.pop(key, None)
            self._disk[key] = size
            self._trim()

    def _trim(self) -> None:
        total = sum(self._disk.values())
        for key in list(self._disk):
            if total <= self._disk_limit:
                return
            total -= self._disk[key]
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._disk.pop(key, None)
        # Windows keeps a file that another process reads; it goes at the next trim.
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)


def _half(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or array.dtype == np.float16:
        return array
    if array.size and float(np.abs(array).max()) > _HALF_MAX:
        return array.astype(np.float32)
    return array.astype(np.float16)


def _an_hour_ago() -> float:
    import time

    return time.time() - 3600
