"""What the Learn tab works with: the slides to learn from, the training looked at, the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.records import now
from napari_histosam.viewer.learning.bases import Base, bases
from napari_histosam.viewer.learning.course import Course, begin, courses
from napari_histosam.viewer.learning.estimate import Estimate, estimate, work_ahead
from napari_histosam.viewer.learning.follow import Follower, Snapshot
from napari_histosam.viewer.learning.launcher import Launcher
from napari_histosam.viewer.learning.measuring import Trouble, costs_of
from napari_histosam.viewer.learning.order import Order, data_name, model_name, spare_threads
from napari_histosam.viewer.learning.patch_bases import PatchBase, patch_bases
from napari_histosam.viewer.learning.patch_order import refuse_two
from napari_histosam.viewer.learning.result import Result, read_result
from napari_histosam.viewer.learning.shelf import Shelf
from napari_histosam.viewer.learning.sources import lacks_background

if TYPE_CHECKING:
    from napari_histosam.jobs import JobRunner, RunningJob
    from napari_histosam.train.finetune.costs import Costs
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.learning.sources import Advice
    from napari_histosam.viewer.workbench import Workbench


class Desk:
    """The state behind the Learn tab.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
        Stores and networks are asked in the background.

    Notes
    -----
    Signals: ``bases_changed()``, ``costs_changed()`` (what a training takes has been measured),
    ``course_changed()`` (another training is looked at), ``models_changed()`` and ``said(str)``.
    """

    bases_changed = Signal()
    costs_changed = Signal()
    course_changed = Signal()
    models_changed = Signal()
    said = Signal(str)

    def __init__(self, workbench: Workbench, jobs: JobRunner) -> None:
        self.workbench, self._jobs = workbench, jobs
        self.launcher = Launcher()
        self.shelf = Shelf(jobs)
        self.shelf.said.connect(self.said.emit)
        self.bases: list[Base] = []
        self.patch_bases: list[PatchBase] = []
        self.course: Course | None = None
        self._follower: Follower | None = None
        self._costs: dict[tuple[str, str], Costs | Trouble] = {}
        self._measuring: tuple[tuple[str, str], RunningJob] | None = None

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        self.shelf.show_controller(controller)

    # -- what to train -----------------------------------------------------------------------

    def read_bases(self) -> RunningJob:
        """Find out, in the background, which models can be trained."""
        registry = self.workbench.registry
        reading = self._jobs.start(
            "Finding models to train",
            lambda report, cancel: (bases(registry), patch_bases(registry)),
        )

        def arrived(found: tuple[list[Base], list[PatchBase]]) -> None:
            self.bases, self.patch_bases = found
            # A training that has ended knows better what the next one takes.
            self._costs.clear()
            self.bases_changed.emit()

        reading.finished.connect(arrived)
        return reading

    def estimate(self, base: Base, method: str, epochs: int) -> Estimate | Trouble | None:
        """Estimate what a training takes here; None while that is being measured.

        The first question about a model and method starts the measurement, in the background;
        ``costs_changed`` tells when it is there.
        """
        kind = base.card.name, method
        found = self._costs.get(kind)
        if found is None:
            if any(self._runs(course) for course in courses()):
                return Trouble("Measured when the training that runs has ended.", memory=False)
            self._measure(kind)
            return None
        if isinstance(found, Trouble):
            return found
        return estimate(found, work_ahead(base.card, self.shelf.chosen, epochs))

    def lacks(self, base: Base) -> Advice | None:
        """Say what the chosen slides lack for a base, beyond what every one needs."""
        return lacks_background(self.shelf.chosen) if base.card.finds else None

    def forget_troubles(self) -> None:
        """Measure again what could not be measured."""
        self._costs = {k: v for k, v in self._costs.items() if not isinstance(v, Trouble)}

    def _measure(self, kind: tuple[str, str]) -> None:
        if self._measuring is not None:
            if self._measuring[0] == kind:
                return
            self._measuring[1].cancel()
        registry = self.workbench.registry
        job = self._jobs.start(
            "Measuring what a training takes",
            lambda report, cancel: costs_of(registry, *kind, spare_threads(), cancel.check),
        )
        self._measuring = kind, job

        def arrived(found: Costs | Trouble) -> None:
            if self._measuring is not None and self._measuring[1] is job:
                self._measuring = None
            self._costs[kind] = found
            self.costs_changed.emit()

        def failed(error: BaseException) -> None:
            arrived(Trouble(f"It could not be measured: {error}", memory=False))

        job.finished.connect(arrived)
        job.failed.connect(failed)

    def _stop_measuring(self) -> None:
        if self._measuring is not None:
            self._measuring[1].cancel()
            self._measuring = None

    def start(self, model: str, method: str, epochs: int) -> None:
        """Begin a training with the chosen slides.

        Raises
        ------
        InputError
            If they do not suffice, another training is running, or it cannot be started.
        """
        if not self.shelf.advice.enough:
            raise InputError(self.shelf.advice.text)
        card = self.workbench.registry.get(model)
        lacking = self.lacks(Base(card, (method,)))
        if lacking is not None and not lacking.enough:
            raise InputError(lacking.text)
        self._refuse_two()
        slides = self.shelf.chosen
        names = tuple(one.name for one in slides)
        data = data_name(names)
        costs = self._costs.get((model, method))
        takes = None
        if costs is not None and not isinstance(costs, Trouble):
            takes = estimate(costs, work_ahead(card, slides, epochs))
        self._stop_measuring()
        taken = [str(one.read("order").get("name", "")) for one in courses()]
        order = Order(
            sources=tuple(one.path for one in slides),
            slides=names,
            objects=sum(one.count for one in slides),
            model=model,
            method=method,
            epochs=epochs,
            data=data,
            name=model_name(self.workbench.registry, model, data, taken),
            threads=spare_threads(),
            expected=None if takes is None else takes.seconds,
            comparison=None if takes is None else takes.comparison,
        )
        course = begin(order)
        self.launcher.start(course)
        self.look_at(course)

    # -- the training ------------------------------------------------------------------------

    def look_at(self, course: Course | None) -> None:
        """Look at a training; None is for a new one."""
        self.course = course
        self._follower = None if course is None else Follower(course, self.launcher)
        self.course_changed.emit()

    def find(self) -> None:
        """Come back to a training that runs, or that ended and waits for a decision."""
        known = courses()
        running = [course for course in known if self._runs(course)]
        # An older one that was never decided on was passed over for a newer one.
        waiting = [course for course in known[:1] if not course.read("decision")]
        for course in (*running, *waiting):
            self.look_at(course)
            return

    def look(self) -> Snapshot | None:
        """Return how the training that is looked at stands."""
        return None if self._follower is None else self._follower.look()

    def pause(self) -> None:
        """Have the training pause."""
        if self.course is not None:
            self.launcher.pause(self.course)

    def finish(self) -> None:
        """Have the training end now, with what it has learned so far."""
        if self.course is not None:
            self.launcher.finish(self.course)

    def stop(self) -> None:
        """Give the training up."""
        if self.course is not None:
            self.launcher.stop(self.course)
            self._decide("stopped")

    def resume(self) -> None:
        """Have the training go on."""
        if self.course is not None:
            self._refuse_two()
            (self.course.path / "decision.json").unlink(missing_ok=True)
            self.launcher.start(self.course)

    # -- the decision ------------------------------------------------------------------------

    @property
    def result(self) -> Result | None:
        """What came of the training that is looked at."""
        return None if self.course is None else read_result(self.course)

    @property
    def decision(self) -> str:
        """``"used"``, ``"kept"`` (the old model), ``"stopped"``, or nothing yet."""
        return "" if self.course is None else str(self.course.read("decision").get("kind", ""))

    def use(self, name: str) -> None:
        """Make a trained model the one that is worked with, now and at the next start.

        Raises
        ------
        InputError
            If it is not ready, or does not take the prompts in hand.
        """
        self.workbench.set_model(name)
        self.workbench.choice.use(name)
        self._decide("used")
        self.models_changed.emit()
        self.said.emit(f"{name} answers from now on; Go back returns to the model before it.")

    def keep_old(self) -> None:
        """Leave the model as it is."""
        self._decide("kept")
        self.said.emit(
            f"{self.workbench.model} stays; the trained model can still be chosen in the list."
        )

    def go_back(self) -> str:
        """Return to the model that was chosen before the present one; return its name."""
        choice = self.workbench.choice
        before = choice.model
        name = choice.go_back()
        try:
            self.workbench.set_model(name)
        except HistosamError:
            choice.use(before)
            raise
        if self.decision == "used":
            self._decide("kept")
        self.models_changed.emit()
        self.said.emit(f"Back to {name}.")
        return name

    # -- inside ------------------------------------------------------------------------------

    def _decide(self, kind: str) -> None:
        if self.course is not None:
            self.course.write("decision", {"kind": kind, "at": now()})

    def _refuse_two(self) -> None:
        refuse_two(self.launcher, self.course)

    def _runs(self, course: Course) -> bool:
        # A process that has written its last word is only leaving.
        return course.read("course").get("stage") != "finished" and self.launcher.alive(course)
