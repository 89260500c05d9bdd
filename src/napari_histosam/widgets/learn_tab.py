"""The *Learn* tab: what there is to learn from, the training, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives two of them at run time
    QSize,
    QTimer,
    Signal,
)
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.heat import ViewHeat
from napari_histosam.viewer.learning.course import courses
from napari_histosam.viewer.learning.desk import Desk
from napari_histosam.viewer.learning.guide import Guide
from napari_histosam.widgets.guide_box import GuideBox
from napari_histosam.widgets.learn_plan import PlanBox
from napari_histosam.widgets.learn_result import ResultBox
from napari_histosam.widgets.learn_run import RunBox
from napari_histosam.widgets.learn_slides import SlidesBox
from napari_histosam.widgets.parts import choice, label, row

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.jobs import Dispatcher, JobRunner
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.learning.course import Course
    from napari_histosam.viewer.learning.patch_bases import PatchBase
    from napari_histosam.viewer.workbench import Workbench

# Milliseconds between two looks at a training's files, and from an edit to counting anew.
LOOK_MS, COUNT_MS = 500, 800


class LearnTab(QWidget):
    """Makes a better model of what was corrected.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
    dispatcher : Dispatcher, optional
        Brings what a model sees to the window while it still looks.
    """

    said = Signal(str)
    job_started = Signal(object)
    models_changed = Signal()
    predict_requested = Signal(str)
    heat_requested = Signal(str)

    def __init__(
        self, workbench: Workbench, jobs: JobRunner, dispatcher: Dispatcher | None = None
    ) -> None:
        super().__init__()
        self._controller: Controller | None = None
        self._listing = False
        self._last = ""
        self.desk = Desk(workbench, jobs)
        self._jobs, self._dispatcher = jobs, dispatcher
        self.guide = Guide(workbench, jobs, self.desk.launcher)
        self.steps = GuideBox(self.guide)
        self.trainings = choice("A new training, or one that was begun before")
        self.slides = SlidesBox(
            self.desk.shelf, self.add_slides, self._name_patient, self._mark_region
        )
        self.plan = PlanBox(self.desk)
        self.run = RunBox()
        self.result = ResultBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(8)
        layout.addLayout(row(label("Training"), self.trainings))
        for part in (self.slides, self.plan, self.steps, self.result, self.run):
            layout.addWidget(part)
        layout.addStretch(1)
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._on_look)
        self._count = QTimer(self)
        self._count.setSingleShot(True)
        self._count.setInterval(COUNT_MS)
        self._count.timeout.connect(self._read)
        self.trainings.currentIndexChanged.connect(self._on_chosen)
        self.plan.start_requested.connect(self._start)
        self.plan.patches_chosen.connect(self._on_patches)
        self.steps.said.connect(self.said.emit)
        self.steps.job_started.connect(self.job_started.emit)
        self.steps.train_requested.connect(self._train_patches)
        self.steps.predict_requested.connect(self.predict_requested.emit)
        self.steps.heat_requested.connect(self.heat_requested.emit)
        self.guide.models_changed.connect(self._on_models)
        self.run.pause_requested.connect(self._pause)
        self.run.finish_requested.connect(self._finish)
        self.run.stop_requested.connect(self._stop)
        self.run.resume_requested.connect(self._resume)
        self.result.use_requested.connect(self._use)
        self.result.keep_requested.connect(self._keep)
        self.result.back_requested.connect(self._back)
        self.desk.said.connect(self.say)
        self.desk.course_changed.connect(self._on_course)
        self.desk.models_changed.connect(self._on_models)
        self.desk.find()
        self._on_course()

    def minimumSizeHint(self) -> QSize:
        """Ask for width only; of texts that wrap, Qt's least height is that of the narrowest."""
        return QSize(super().minimumSizeHint().width(), 0)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.store.changed.disconnect(self._on_store)
        self._controller = controller
        if self.guide.heat is not None:
            self.guide.heat.hide()
        heat = None
        if controller is not None:
            registry = self.desk.workbench.registry
            heat = ViewHeat(controller, registry, self._jobs, self._dispatcher)
        self.steps.show_controller(controller, heat)
        self.desk.show_controller(controller)
        if controller is not None:
            controller.session.store.changed.connect(self._on_store)
            self.slides.show_colours(controller.session.store.classes())
        self._on_store()

    def showEvent(self, event: Any) -> None:
        """Count what there is now; while the tab is hidden nobody reads it."""
        super().showEvent(event)
        if not self.desk.bases:
            self.desk.read_bases()
        self._read()

    def end(self) -> None:
        """Look at nothing any more; a training goes on."""
        self._look.stop()
        self._count.stop()
        self.steps.end()

    @told
    def add_slides(self, paths: list[Path]) -> None:
        """Learn from further slides, too."""
        self.job_started.emit(self.desk.shelf.add(paths))

    @told
    def _name_patient(self, key: str, patient: str) -> None:
        job = self.desk.shelf.name_patient(key, patient)
        if job is not None:
            self.job_started.emit(job)

    @told
    def _mark_region(self) -> None:
        self.desk.shelf.mark_region()
        self.say("What is on screen counts as fully labelled; Ctrl+Z takes it back.")

    # -- slides ------------------------------------------------------------------------------

    def _on_store(self, *_: Any) -> None:
        if self.isVisible():
            self._count.start()

    def _read(self) -> None:
        if self._controller is not None:
            self.slides.show_colours(self._controller.session.store.classes())
        self.desk.shelf.read()

    # -- trainings ---------------------------------------------------------------------------

    def _on_course(self) -> None:
        self._last = ""
        self._list()
        new = self.desk.course is None
        self.plan.setVisible(new)
        self._on_patches(self.plan.patches if new else None)
        self.slides.setVisible(new and self.plan.patches is None)
        self.run.setVisible(not new)
        self.result.hide()
        if new:
            self._look.stop()
            self.plan.refresh()
        else:
            self._look.start()
            self._on_look()

    def _on_patches(self, base: PatchBase | None) -> None:
        """Lead through the steps of patch labels, or give the objects their room back."""
        self.steps.choose(base)
        self.slides.setVisible(base is None and self.desk.course is None)

    @told
    def _train_patches(self) -> None:
        self.guide.train(self.plan.detail.currentData(), self.plan.epochs.value())
        self.say("The training has begun; work on meanwhile.")

    def _list(self) -> None:
        self._listing = True
        self.trainings.clear()
        self.trainings.addItem("New training", None)
        for course in courses():
            self.trainings.addItem(_title(course), course)
            if course == self.desk.course:
                self.trainings.setCurrentIndex(self.trainings.count() - 1)
        self._listing = False

    def _on_chosen(self, _index: int) -> None:
        if not self._listing:
            self._look_at(self.trainings.currentData())

    @told
    def _look_at(self, course: Course | None) -> None:
        self.desk.look_at(course)

    def _on_look(self) -> None:
        self._show_run()

    @told
    def _show_run(self) -> None:
        shown, course = self.desk.look(), self.desk.course
        if shown is None or course is None:
            return
        self.run.show_run(shown, course.order)
        if shown.state != self._last:
            if shown.state == "finished" and self._last:
                self._on_models()
                self.say("The training has ended; the result is in the Learn tab.")
            elif shown.state in ("failed", "lost"):
                self.say(shown.message)
            self._last = shown.state
        if not shown.working:
            self._look.stop()
        self._show_result()

    def _show_result(self) -> None:
        result = self.desk.result
        self.result.setVisible(result is not None)
        if result is not None:
            choice = self.desk.workbench.choice
            self.result.show_result(result, self.desk.decision, choice.model, choice.earlier)

    @told
    def _start(self, model: str, method: str, epochs: int) -> None:
        self.desk.start(model, method, epochs)
        self.say("The training has begun; work on meanwhile.")

    @told
    def _pause(self) -> None:
        self.desk.pause()
        self._show_run()

    @told
    def _finish(self) -> None:
        self.desk.finish()
        self._show_run()

    @told
    def _stop(self) -> None:
        self.desk.stop()
        self._show_run()

    @told
    def _resume(self) -> None:
        self.desk.resume()
        self._look.start()
        self._show_run()

    # -- the decision ------------------------------------------------------------------------

    @told
    def _use(self, name: str) -> None:
        self.desk.use(name)
        self._show_result()

    @told
    def _keep(self) -> None:
        self.desk.keep_old()
        self._show_result()

    @told
    def _back(self) -> None:
        self.desk.go_back()
        self._show_result()

    def _on_models(self) -> None:
        self.models_changed.emit()
        self.desk.read_bases()


def _title(course: Course) -> str:
    said = course.read("order")
    return f"{course.begun} · {said.get('model', '?')} · {said.get('method', '?')}"
