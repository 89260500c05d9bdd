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


def sample_slide() -> Path:
    """Return the sample slide's path in `home`, copied there first if it is absent.

    A copy, because a user's objects are kept beside a slide and the package's own folder is no
    place for them.
    """
    import shutil

    source = shipped("sample_data") / "CMU-1-Small-Region.svs"
    target = home() / "samples" / source.name
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        shutil.copyfile(source, part)
        part.replace(target)
    return target
