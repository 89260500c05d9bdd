"""Brings calls from any thread to Qt's main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """

    _posted = Signal(object, int)

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._open = True
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def call(self, func: Callable[[], None]) -> None:
        """Run ``func`` soon on the main thread."""
        self._post(func, 0)

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        """Run ``func`` once on the main thread after about ``seconds``."""
        self._post(func, max(1, round(seconds * 1000)))

    def close(self) -> None:
        """Drop what is still on its way."""
        self._open = False

    def _post(self, func: Callable[[], None], milliseconds: int) -> None:
        if not self._open:
            return
        try:
            self._posted.emit(func, milliseconds)
        except RuntimeError:
            # Qt is shutting down and this object is gone; there is no window left to tell.
            self._open = False

    @Slot(object, int)
    def _run(self, func: Any, milliseconds: int) -> None:
        if milliseconds:
            QTimer.singleShot(milliseconds, lambda: self._run(func, 0))
        elif self._open:
            attempt(func, self._say)
