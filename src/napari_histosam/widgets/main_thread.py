"""Brings calls from any thread to Qt's main thread."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives two of them at run time
    QObject,
    Qt,
    QTimer,
    Signal,
    Slot,
)

from napari_histosam.viewer.attempt import attempt

if TYPE_CHECKING:
    from collections.abc import Callable


class MainThread(QObject):
    """A dispatcher (see ``jobs.Dispatcher``) for a window. Make it on the main thread.

    Parameters
    ----------
    say : callable
        Told a sentence when a call fails in a way that nobody foresaw.

    Notes
    -----
    The calls wait in a queue of Python's own; Qt carries only the news that there are some, and one
    timer serves all that are for later. Python objects inside queued signals, and new connections
    made while other threads make theirs (as napari's asynchronous slicing does), end in crashes.
    """

    _posted = Signal()

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._open = True
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._run)
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def call(self, func: Callable[[], None]) -> None:
        """Run ``func`` soon on the main thread."""
        self._post(func, 0.0)

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        """Run ``func`` once on the main thread after about ``seconds``."""
        self._post(func, time.monotonic() + seconds)

    def close(self) -> None:
        """Drop what is still on its way."""
        self._open = False
        with self._lock:
            self._waiting.clear()

    def _post(self, func: Callable[[], None], due: float) -> None:
        if not self._open:
            return
        with self._lock:
            heapq.heappush(self._waiting, (due, next(self._order), func))
        try:
            self._posted.emit()
        except RuntimeError:
            # Qt is shutting down and this object is gone; there is no window left to tell.
            self._open = False

    @Slot()
    def _run(self) -> None:
        """Do what is due, in the order of its time; set the timer for the rest."""
        while self._open:
            with self._lock:
                if not self._waiting:
                    return
                wait = self._waiting[0][0] - time.monotonic()
                if wait > 0:
                    break
                func = heapq.heappop(self._waiting)[2]
            attempt(func, self._say)
        if self._open:
            self._timer.start(max(1, round(wait * 1000)))
