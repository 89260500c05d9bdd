"""A slide's identity: a hash of its content that survives moving and renaming."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ENDS = 64 * 1024
_SAMPLE = 4 * 1024
_SAMPLES = 32


def file_identity(path: Path) -> str:
    """Hash a file's size, its first and last 64 KiB and 32 samples spread between them.

    Reads at most 256 KiB, so that a slide of many gigabytes on a slow drive opens at once.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"file:{size}:".encode())
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        middle = size - 2 * _ENDS
        for i in range(_SAMPLES if middle > 0 else 0):
            file.seek(_ENDS + middle * i // _SAMPLES)
            digest.update(file.read(_SAMPLE))
        file.seek(max(size - _ENDS, 0))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()


def pixel_identity(kind: str, parts: Iterable[Any], sample: np.ndarray) -> str:
    """Hash some facts (shapes, dtypes) and a sample of pixels."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(repr(part).encode())
    digest.update(np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()
