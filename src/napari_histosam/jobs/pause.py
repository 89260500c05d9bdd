"""A switch that holds running work at its next safe point until it is let go."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_histosam.jobs.cancel import CancelToken

# How often held work looks whether it was cancelled.
_LOOK_S = 0.1


class PauseSwitch:
    """Asks running work to wait."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def pause(self) -> None:
        """Hold the work at its next safe point."""
        self._free.clear()

    def go_on(self) -> None:
        """Let the work go on."""
        self._free.set()

    @property
    def paused(self) -> bool:
        """Whether the work is asked to wait."""
        return not self._free.is_set()

    def wait(self, cancel: CancelToken) -> float:
        """Wait until the work may go on or is cancelled; return the seconds that took."""
        start = time.monotonic()
        while not self._free.wait(_LOOK_S) and not cancel.cancelled:
            pass
        return time.monotonic() - start
