"""Where the app keeps weights, caches and settings, and where its shipped files lie."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the folder for weights, caches and settings, made if it is absent.

    ``HISTOSAM_HOME`` names it; else the platform's user data folder does.
    """
    named = os.environ.get("HISTOSAM_HOME")
    if named:
        folder = Path(named).expanduser()
    else:
        from platformdirs import user_data_path

        folder = user_data_path("napari-histosam", appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shipped(kind: str) -> Path:
    """Return the folder of shipped files: ``kind`` is ``"weights"`` or ``"sample_data"``.

    A wheel carries them inside the package; a checkout has them at its top level.
    """
    package = Path(__file__).parent
    inside = package / f"_{kind}"
    return inside if inside.is_dir() else package.parents[1] / kind
