"""The last line of the dock: what just happened, and how far running work has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_histosam.errors import HistosamError
from napari_histosam.widgets.parts import button, note, row

if TYPE_CHECKING:
    from napari_histosam.jobs import Progress, RunningJob


class StatusLine(QWidget):
    """A sentence, and a bar with a stop button while a job runs.

    The bar is mirrored in napari's activity area.
    """

    def __init__(self) -> None:
        super().__init__()
        self._job: RunningJob | None = None
        self._activity: Any = None
        self.text = note()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.stop = button("Stop", "Stop at the next safe point; nothing half-done stays", self._stop)
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

        self._job = job
        self.bar.setRange(0, 0)
        self.bar.setFormat(job.title)
        self.running.show()
        self._activity = progress(total=100, desc=job.title)
        job.progressed.connect(self._on_progress)
        job.finished.connect(self._on_end)
        job.cancelled.connect(self._on_cancelled)
        job.failed.connect(self._on_failed)

    def _on_progress(self, state: Progress) -> None:
        share = state.fraction
        if share is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(share * 1000))
            if self._activity is not None:
                self._activity.n = round(share * 100)
                self._activity.refresh()
        self.bar.setFormat(state.text or (self._job.title if self._job else ""))

    def _on_end(self, *_: Any) -> None:
        self.running.hide()
        self._job = None
        if self._activity is not None:
            self._activity.close()
            self._activity = None

    def _on_cancelled(self) -> None:
        title = self._job.title if self._job else "The work"
        self._on_end()
        self.say(f"Stopped: {title}. Nothing was changed.")

    def _on_failed(self, error: BaseException) -> None:
        title = self._job.title if self._job else "The work"
        self._on_end()
        if isinstance(error, HistosamError):
            self.say(str(error))
        else:
            self.say(f"{title} failed: {error or type(error).__name__}.")

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
