"""Whether a file can be written, asked before the work that makes its content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def check_target(path: Path) -> None:
    """Refuse in one sentence a path that cannot be written; nothing is made or changed.

    Raises
    ------
    InputError
        If the path is a folder, its folder is not there, or may not be written to.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"The folder {folder} is not there; make it or choose another one.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder {folder} may not be written to; choose another one.")
