"""A flag that one thread raises and another looks at."""

from __future__ import annotations

import threading

from napari_histosam.errors import Cancelled


class CancelToken:
    """Asks running work to stop at its next safe point."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Raise the flag."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the flag is up."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the flag is up."""
        if self._event.is_set():
            raise Cancelled("Stopped at your request; nothing was changed.")
