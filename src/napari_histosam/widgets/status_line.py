"""The last line of the dock: what just happened, and how far running work has come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_histosam.viewer.attempt import sentence
from napari_histosam.widgets.parts import button, note, row

if TYPE_CHECKING:
    from napari_histosam.jobs import Progress, RunningJob


class StatusLine(QWidget):
    """A sentence, and a bar with a stop button while jobs run: the one that began last.

    Each job's bar is mirrored in napari's activity area.
    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[RunningJob, Any] = {}
        self.text = note()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.stop = button(
            "Stop", "Stop at the next safe point; nothing half-done stays", self._stop
        )
        self.running = QWidget()
        self.running.setLayout(row(self.bar, self.stop))
        self.running.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 0, 6, 4)
        layout.addWidget(self.running)
        layout.addWidget(self.text)

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.text.setText(text)

    def follow(self, job: RunningJob) -> None:
        """Show a job's progress until it ends."""
        from napari.utils import progress

        self._jobs[job] = None
        self._show_last()
        job.progressed.connect(partial(self._on_progress, job))
        job.finished.connect(lambda _result: self._on_end(job))
        job.cancelled.connect(lambda: self._on_end(job, f"Stopped: {job.title}."))
        job.failed.connect(lambda error: self._on_end(job, sentence(error)))
        # napari's bar lets Qt handle its events, so that a quick job can end right here.
        activity = progress(total=100, desc=job.title)
        if job in self._jobs:
            self._jobs[job] = activity
        else:
            activity.close()

    def end(self) -> None:
        """Take all bars away."""
        for job in list(self._jobs):
            self._on_end(job)

    def _on_progress(self, job: RunningJob, state: Progress) -> None:
        if job not in self._jobs:
            return
        share = state.fraction
        activity = self._jobs[job]
        if share is not None and activity is not None:
            activity.n = round(share * 100)
            activity.refresh()
        if job is self._last:
            self.bar.setRange(0, 0 if share is None else 1000)
            self.bar.setValue(0 if share is None else round(share * 1000))
            self.bar.setFormat(state.text or job.title)

    def _on_end(self, job: RunningJob, text: str = "") -> None:
        activity = self._jobs.pop(job, None)
        if activity is not None:
            activity.close()
        self._show_last()
        if text:
            self.say(text)

    @property
    def _last(self) -> RunningJob | None:
        return next(reversed(self._jobs), None)

    def _show_last(self) -> None:
        job = self._last
        self.running.setVisible(job is not None)
        if job is not None:
            self.bar.setRange(0, 0)
            self.bar.setFormat(job.title)

    def _stop(self) -> None:
        if self._last is not None:
            self._last.cancel()
