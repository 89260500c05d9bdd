"""Does a session's slow work, here or on a worker thread; what goes wrong becomes a sentence."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import HistosamError
from napari_histosam.jobs import Priority, SerialWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.jobs import Dispatcher

_log = logging.getLogger(__name__)
# How long closing waits for a running call; a daemon thread ends with the process in any case.
PATIENCE_S = 2.0


class Workbench:
    """Runs work and brings its result to the owner's thread.

    Parameters
    ----------
    dispatcher : Dispatcher, optional
        Given, work runs on a worker thread, one piece at a time, and results come back through
        it. Without one, everything is done when `do` returns, and errors are raised.
    busy : callable of str
        Gets what is going on; an empty text when nothing is.
    """

    def __init__(self, dispatcher: Dispatcher | None, busy: Callable[[str], None]) -> None:
        self._dispatcher = dispatcher
        self._worker = SerialWorker("histosam-model") if dispatcher else None
        self._busy = busy
        self._lock = threading.Lock()
        self._pending = 0
        self.closed = False

    @property
    def threaded(self) -> bool:
        """Whether work runs on a thread of its own."""
        return self._worker is not None

    def do(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[str], None],
        *,
        text: str,
        priority: Priority = Priority.NORMAL,
        replaces: str,
    ) -> None:
        """Do ``work``, then call ``done(result)`` or ``failed(sentence)`` on the owner's thread.

        Parameters
        ----------
        work, done, failed : callable
        text : str
            What is going on, for people: ``"Thinking"``.
        priority : Priority
        replaces : str
            Work with the same word that still waits is given up.

        Raises
        ------
        HistosamError
            Without a dispatcher, after ``failed`` was called.
        """
        if self._worker is None or self._dispatcher is None:
            try:
                result = work()
            except Exception as error:
                plain = plainly(error, text)
                failed(str(plain))
                if plain is error:
                    raise
                raise plain from error
            done(result)
            return
        call = self._dispatcher.call
        with self._lock:
            self._pending += 1
        self._busy(f"{text}…")

        def deliver(future: Future[Any]) -> None:
            with self._lock:
                self._pending -= 1
                idle = not self._pending
            if self.closed:
                return
            if idle:
                self._busy("")
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                done(future.result())
            else:
                failed(str(plainly(error, text)))

        future = self._worker.submit(work, priority=priority, replaces=replaces)
        future.add_done_callback(lambda ended: call(lambda: deliver(ended)))

    def when_idle(self, work: Callable[[], Any], *, replaces: str) -> None:
        """Do ``work`` when nothing else waits, if there is a worker; nobody hears how it ended."""
        if self._worker is not None:
            self._worker.submit(work, priority=Priority.IDLE, replaces=replaces)

    def aside(self, work: Callable[[], Any]) -> Future[Any]:
        """Do a short piece of a long work between the user's own; from a job, which waits for it.

        A prompt goes first, so no piece should take longer than a prompt may wait.
        """
        if self._worker is not None:
            return self._worker.submit(work, priority=Priority.IDLE)
        done: Future[Any] = Future()
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - handed on through the future
            done.set_exception(error)
        return done

    def tell(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` on the owner's thread; may be called from any thread."""
        if self._dispatcher is None:
            tell()
        else:
            self._dispatcher.call(lambda: None if self.closed else tell())

    def close(self) -> None:
        """Give up what waits; what still runs comes to nothing."""
        self.closed = True
        if self._worker is not None:
            self._worker.close(PATIENCE_S)


def plainly(error: BaseException, text: str) -> HistosamError:
    """Return an error whose text is a sentence for the user; one that is so already as it is."""
    if isinstance(error, HistosamError):
        return error
    _log.error("%s failed", text, exc_info=error)
    if isinstance(error, MemoryError):
        return HistosamError(
            f"{text} failed: this computer has not enough free memory; close other programs or "
            "choose a smaller model."
        )
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return HistosamError(
        f"{text} failed ({what}); what was accepted is safe, so try again or choose another model."
    )
