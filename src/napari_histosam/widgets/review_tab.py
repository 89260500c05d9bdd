"""The *Review* tab: which objects to look at, least certain first, and one key for each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QSize,
    Signal,
)
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_histosam.viewer.attempt import sentence
from napari_histosam.viewer.review_walk import Wanted, sorting
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, choice, note, number, row
from napari_histosam.widgets.review_card import ReviewCard
from napari_histosam.widgets.tool_bar import ToolBar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_histosam.jobs import JobRunner
    from napari_histosam.jobs.runner import RunningJob
    from napari_histosam.session.review import ReviewQueue
    from napari_histosam.viewer.controller import Controller

INTRO = (
    "Look through the objects, least certain first: low scores, odd sizes and shapes, and what "
    "looks unlike its class. Answers are kept at once; Ctrl+Z takes them back."
)
SOURCES = ("automatic", "imported", "prompted", "manual")


class ReviewTab(QWidget):
    """Sorts the objects, then shows them one by one.

    Parameters
    ----------
    jobs : JobRunner
        Runs the sorting.
    """

    said = Signal(str)
    job_started = Signal(object)

    def __init__(self, jobs: JobRunner) -> None:
        super().__init__()
        self._jobs = jobs
        self._controller: Controller | None = None
        self._running: RunningJob | None = None
        self._filling = False
        self.classes = choice("Review one class only")
        self.sources = choice("Review what came one way only")
        self.sources.addItems(["All sources", *SOURCES])
        self.unreviewed = QCheckBox("Only what is not reviewed yet")
        self.unreviewed.setChecked(True)
        self.of_run = QCheckBox("Only what the last automatic run found")
        self.of_run.hide()
        self._run_ids: frozenset[str] = frozenset()
        self.ask = QCheckBox("Ask the model again (takes longer)")
        self.ask.setToolTip(
            "Clicks into the 100 most doubtful objects and compares the model's answers with them"
        )
        self.start = button("Start", "Sort the objects and show the first", self._start)
        self.card = ReviewCard()
        self.tools = ToolBar()
        self.counts = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(note(INTRO))
        layout.addLayout(row(self.classes, self.sources))
        layout.addWidget(self.unreviewed)
        layout.addWidget(self.of_run)
        layout.addWidget(self.ask)
        layout.addWidget(self.start)
        layout.addWidget(self.card)
        layout.addWidget(self.tools)
        layout.addWidget(self.counts)
        layout.addStretch(1)
        self.classes.activated.connect(self._choose)
        self.sources.activated.connect(self._choose)
        self.unreviewed.toggled.connect(self._choose)
        self.of_run.toggled.connect(self._choose)
        self.show_controller(None)

    def minimumSizeHint(self) -> QSize:
        """Ask for width only; of texts that wrap, Qt's least height is that of the narrowest."""
        return QSize(super().minimumSizeHint().width(), 0)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session; sorting for the old one ends."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        if self._controller is not None:
            self._controller.review.changed.disconnect(self._update)
            self._controller.session.store.changed.disconnect(self._on_change)
        self._controller = controller
        self.of_run.setChecked(False)
        self.of_run.hide()
        if controller is not None:
            controller.review.changed.connect(self._update)
            controller.session.store.changed.connect(self._on_change)
            controller.review.active = self.isVisible()
        self.setEnabled(controller is not None)
        self.tools.show_controller(controller)
        self._list_classes()
        self.card.show_controller(controller)
        self._update()

    def showEvent(self, event: QShowEvent) -> None:
        """Take the keys: they mean the object under review."""
        super().showEvent(event)
        self._set_active(True)
        self._update()

    def hideEvent(self, event: QHideEvent) -> None:
        """Give the keys back."""
        super().hideEvent(event)
        self._set_active(False)

    @property
    def wanted(self) -> Wanted:
        """What the user has chosen to go through."""
        name: Any = ... if self.classes.currentIndex() <= 0 else self.classes.currentData()
        source: Any = ... if self.sources.currentIndex() <= 0 else self.sources.currentText()
        ids = self._run_ids if self.of_run.isChecked() else None
        return Wanted(name, source, self.unreviewed.isChecked(), ids)

    def review_run(self, ids: Iterable[str]) -> None:
        """Go through the objects of an automatic run, least certain first."""
        self._run_ids = frozenset(ids)
        self.of_run.show()
        self.of_run.setChecked(True)
        self.classes.setCurrentIndex(0)
        self.sources.setCurrentIndex(0)
        self._start()

    def _set_active(self, active: bool) -> None:
        if self._controller is not None and not self._controller.closed:
            self._controller.review.active = active

    def _start(self) -> None:
        controller = self._controller
        if controller is None or self._running is not None:
            return
        job = sorting(controller.session, ask_model=self.ask.isChecked())
        running = self._jobs.start("Sorting objects for review", job)
        self._running = running
        running.finished.connect(lambda queue: self._sorted(running, queue))
        running.failed.connect(lambda error: self._ended(running, sentence(error)))
        running.cancelled.connect(lambda: self._ended(running, "Sorting was stopped."))
        self.job_started.emit(running)
        self._update()

    def _sorted(self, running: RunningJob, queue: ReviewQueue) -> None:
        if running is self._running and self._controller is not None:
            self._running = None
            self._controller.review.begin(queue, self.wanted)
            self._update()

    def _ended(self, running: RunningJob, text: str) -> None:
        if running is self._running:
            self._running = None
            self.said.emit(text)
            self._update()

    def _choose(self, *_: Any) -> None:
        if self._controller is not None and not self._filling:
            self._controller.review.choose(self.wanted)

    def _on_change(self, change: Any) -> None:
        if change.classes_changed:
            self._list_classes()
            self.card.list_classes()
        self._update()

    def _list_classes(self) -> None:
        self._filling = True
        before = self.classes.currentText()
        self.classes.clear()
        self.classes.addItem("All classes", ...)
        if self._controller is not None:
            for cls in self._controller.session.store.classes():
                self.classes.addItem(cls.name, cls.name)
            self.classes.addItem("unclassified", None)
        self.classes.setCurrentIndex(max(0, self.classes.findText(before)))
        self._filling = False

    def _update(self) -> None:
        if not self.isVisible():
            return  # edits elsewhere need not wait for it
        controller = self._controller
        begun = controller is not None and controller.review.begun
        self.card.update_card()
        self.tools.setVisible(begun)
        self.start.setText(
            "Sorting…" if self._running else "Sort again" if begun else "Start the review"
        )
        self.start.setStyleSheet("" if begun else PRIMARY_STYLE)
        if controller is None:
            self.counts.setText("")
            return
        found = controller.session.store.review_counts()
        every = sum(n for key, n in found.items() if key != "rejected")
        self.start.setEnabled(self._running is None and every > 0)
        if not every:
            self.counts.setText("There are no objects yet: accept some in Annotate, or import.")
            return
        parts = [f"{number(found[key])} {key}" for key in ("accepted", "corrected", "rejected")]
        self.counts.setText(" · ".join([*parts, f"{number(found[None])} not reviewed"]))
