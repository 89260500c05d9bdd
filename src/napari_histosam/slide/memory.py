"""What the user told us about slides (their µm per px), kept by slide identity."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.slide.units import plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path


class SlideMemory:
    """A small JSON file ``{identity: {"mpp": [x, y]}}``; no names, which can identify patients.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def mpp(self, identity: str) -> tuple[float, float] | None:
        """Return the remembered µm per px (x, y), or None."""
        entry = self._load().get(identity)
        value = entry.get("mpp") if isinstance(entry, dict) else None
        if isinstance(value, list) and len(value) == 2:
            return plausible_mpp(*value)
        return None

    def remember_mpp(self, identity: str, mpp: tuple[float, float]) -> None:
        """Keep µm per px (x, y); the file is replaced as a whole or not at all.

        Raises
        ------
        InputError
            Where the folder cannot be written.
        """
        known = self._load()
        entry = known.get(identity)
        known[identity] = {**(entry if isinstance(entry, dict) else {}), "mpp": list(mpp)}
        try:
            self._save(known)
        except OSError as error:
            raise InputError(
                f"The pixel size is used now but cannot be remembered in {self.path}"
                f" ({error.strerror or error}); free or unlock that folder."
            ) from error

    def _load(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            # Absent or damaged: the user is asked again, which is better than not opening.
            return {}
        return found if isinstance(found, dict) else {}

    def _save(self, known: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise
