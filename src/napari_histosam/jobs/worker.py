"""One thread that works through calls by urgency: the queue in front of the GPU or CPU."""

from __future__ import annotations

import heapq
import itertools
import threading
from concurrent.futures import Future
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Priority(IntEnum):
    """Who goes first: the user's click, then ordinary work, then what nobody waits for."""

    URGENT = 0
    NORMAL = 1
    IDLE = 2


class SerialWorker:
    """Runs calls one at a time on a thread of its own.

    Parameters
    ----------
    name : str
        The thread's name, for debuggers.

    Notes
    -----
    A call may carry a ``replaces`` key: calls with that key which still wait are then cancelled,
    so that a burst of clicks costs one running call and one waiting.
    """

    def __init__(self, name: str = "histosam-worker") -> None:
        self._heap: list[tuple[int, int, str | None, Future[Any], Callable[[], Any]]] = []
        self._order = itertools.count()
        self._ready = threading.Condition()
        self._closed = False
        self._running = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        func: Callable[[], Any],
        *,
        priority: Priority = Priority.NORMAL,
        replaces: str | None = None,
    ) -> Future[Any]:
        """Queue ``func`` and return the future of its result.

        A closed worker returns a cancelled future.
        """
        future: Future[Any] = Future()
        with self._ready:
            if self._closed:
                future.cancel()
                return future
            if replaces is not None:
                self._cancel_waiting(replaces)
            heapq.heappush(self._heap, (int(priority), next(self._order), replaces, future, func))
            self._ready.notify()
        return future

    def cancel(self, key: str) -> None:
        """Cancel the waiting calls that were submitted with ``replaces=key``."""
        with self._ready:
            self._cancel_waiting(key)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        with self._ready:
            return not self._heap and not self._running

    def close(self, timeout: float = 10.0) -> None:
        """Cancel what waits and let the running call end; wait for it at most ``timeout`` s."""
        with self._ready:
            self._closed = True
            for *_, future, _func in self._heap:
                future.cancel()
            self._heap.clear()
            self._ready.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _cancel_waiting(self, key: str) -> None:
        stale = [item for item in self._heap if item[2] == key]
        if stale:
            self._heap = [item for item in self._heap if item[2] != key]
            heapq.heapify(self._heap)
            for item in stale:
                item[3].cancel()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._heap or self._closed)
                if not self._heap:
                    return
                *_, future, func = heapq.heappop(self._heap)
                if not future.set_running_or_notify_cancel():
                    continue
                self._running = True
            result: Any = None
            error: BaseException | None = None
            try:
                result = func()
            except BaseException as caught:  # noqa: BLE001 - handed on through the future
                error = caught
            # Idle before the result is known, so that who hears of it sees the worker as it is.
            with self._ready:
                self._running = False
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
            # Let go at once: a result may hold a large array, and the thread then sleeps.
            del func, future, result, error
