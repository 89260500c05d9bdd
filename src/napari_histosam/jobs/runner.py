"""Cancellable jobs with progress, each on a thread of a small pool."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from psygnal import Signal

from napari_histosam.errors import Cancelled
from napari_histosam.jobs.cancel import CancelToken
from napari_histosam.jobs.dispatch import Dispatcher, Inline
from napari_histosam.jobs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable


class Job(Protocol):
    """A piece of work that reports how far it is and stops when asked."""

    def __call__(self, report: Callable[[Progress], None], cancel: CancelToken) -> Any:
        """Do the work; call ``report`` now and then and ``cancel.check()`` at safe points."""
        ...


class RunningJob:
    """A job under way. Its signals come on the owner's thread.

    Parameters
    ----------
    title : str
        What the job does, for people.
    """

    progressed = Signal(Progress)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, title: str) -> None:
        self.title = title
        self.token = CancelToken()
        self.future: Future[Any] = Future()

    def cancel(self) -> None:
        """Ask the job to stop at its next safe point."""
        self.token.cancel()


class JobRunner:
    """Starts jobs and brings their signals back through a dispatcher.

    Parameters
    ----------
    dispatcher : Dispatcher
        Where signals are delivered; inline for scripts.
    threads : int
        How many jobs run at once.
    """

    def __init__(self, dispatcher: Dispatcher | None = None, threads: int = 2) -> None:
        self._dispatcher = dispatcher or Inline()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="histosam-job")
        self._running: set[RunningJob] = set()

    def start(self, title: str, job: Job) -> RunningJob:
        """Start ``job`` and return its handle; connect to its signals right away."""
        running = RunningJob(title)
        self._running.add(running)
        call = self._dispatcher.call

        def report(progress: Progress) -> None:
            call(lambda: running.progressed.emit(progress))

        def work() -> None:
            try:
                result = job(report, running.token)
            except Cancelled:
                self._end(running, running.cancelled.emit)
                running.future.cancel()
            except BaseException as error:  # noqa: BLE001 - handed on to the owner
                caught = error
                self._end(running, lambda: running.failed.emit(caught))
                running.future.set_exception(caught)
            else:
                self._end(running, lambda: running.finished.emit(result))
                running.future.set_result(result)

        self._pool.submit(work)
        return running

    def close(self) -> None:
        """Cancel all jobs and wait for them to reach a safe point."""
        for job in list(self._running):
            job.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _end(self, running: RunningJob, emit: Callable[[], None]) -> None:
        def deliver() -> None:
            self._running.discard(running)
            emit()

        self._dispatcher.call(deliver)
