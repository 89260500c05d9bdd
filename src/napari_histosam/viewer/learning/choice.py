"""Which model the app begins with: the chosen one, and those that were chosen before it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.home import home
from napari_histosam.models.files import write_bytes_atomic
from napari_histosam.session import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.models import ModelRegistry

_KEPT = 50


class Choice:
    """The chosen model, kept in ``HOME/chosen_model.json``.

    Parameters
    ----------
    registry : ModelRegistry
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    @property
    def model(self) -> str:
        """The model that the app begins with: the chosen one if it is ready, else the default."""
        name = self._line()[-1]
        return name if self._ready(name) else DEFAULT_MODEL

    @property
    def earlier(self) -> str | None:
        """The model that was chosen before and is still ready; None if there is none."""
        for name in reversed(self._line()[:-1]):
            if self._ready(name):
                return name
        return None

    def use(self, name: str) -> None:
        """Choose a model.

        Raises
        ------
        InputError
            If there is no such model, or it is not ready.
        """
        if not self._ready(name):
            raise InputError(f"{name} is not ready on this machine; choose another model.")
        line = self._line()
        if line[-1] != name:
            self._write([*line, name])

    def go_back(self) -> str:
        """Choose the model that was chosen before; return its name.

        Raises
        ------
        InputError
            If there is none.
        """
        name = self.earlier
        if name is None:
            raise InputError("No other model was chosen before; there is nothing to go back to.")
        line = self._line()
        at = len(line) - 2 - line[:-1][::-1].index(name)
        self._write(line[: at + 1])
        return name

    @property
    def _path(self) -> Path:
        return home() / "chosen_model.json"

    def _line(self) -> list[str]:
        try:
            found = json.loads(self._path.read_text("utf-8"))["chosen"]
            names = [name for name in found if isinstance(name, str)]
        except (OSError, ValueError, KeyError, TypeError):
            names = []
        return names or [DEFAULT_MODEL]

    def _write(self, line: list[str]) -> None:
        text = json.dumps({"chosen": line[-_KEPT:]}, indent=1)
        write_bytes_atomic(self._path, text.encode())

    def _ready(self, name: str) -> bool:
        try:
            return self._registry.is_ready(name)
        except InputError:
            return False
