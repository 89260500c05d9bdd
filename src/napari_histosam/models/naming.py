"""The names under which imported models and their files are kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")


def suffix_of(path: Path) -> str:
    """Return the suffix under which a checkpoint is kept."""
    suffix = path.suffix.lower()
    return suffix if suffix in _SUFFIXES else ".pth"


def slug_of(text: str) -> str:
    """Return a name as models have it: lower case, letters and digits.

    Raises
    ------
    InputError
        If nothing is left of it.
    """
    slug = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60]
    if not slug:
        raise InputError("A model's name needs letters or digits: give another one.")
    return slug
