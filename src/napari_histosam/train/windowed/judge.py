"""How what a model finds in held-out windows is judged, whatever it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models.window_trainable import WindowTrainable
    from napari_histosam.train.windowed.kept import Known


class Judge(Protocol):
    """Adds up windows."""

    @classmethod
    def of(cls, several: Sequence[Any]) -> Any:
        """Return several together; one that is there twice counts twice."""
        ...

    @property
    def count(self) -> int:
        """How much was looked at: objects, or images."""
        ...

    def add(self, model: WindowTrainable, known: Known) -> None:
        """Ask a model about a window."""
        ...

    def score(self) -> dict[str, float]:
        """Return figures from 0 to 1 by name, the one that decides first."""
        ...
