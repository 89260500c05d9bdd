"""The automatic runs of a window: what can be run and where, the one under way, what it gave."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import shapely
from psygnal import Signal

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.jobs import PauseSwitch, Progress
from napari_histosam.session.automate import AutomateRequest, automate, plan_tiles
from napari_histosam.session.regions import plan_regions, usual_settings
from napari_histosam.store import Change, RunJournal
from napari_histosam.store.edits import merged
from napari_histosam.viewer.region_view import RegionView

if TYPE_CHECKING:
    from collections.abc import Callable

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.jobs import CancelToken, Dispatcher, JobRunner, RunningJob
    from napari_histosam.models import ModelCard
    from napari_histosam.session.automate import Outcome, TilePlan
    from napari_histosam.session.regions import RegionOutcome
    from napari_histosam.store import ObjectStore, Run
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench

    Work = Callable[[Callable[[Progress], None], CancelToken, PauseSwitch], Any]

# The window hears of new objects this often, however fast they come.
_TELL_S = 0.3
# The family whose classifier draws heat maps.
_WITH_HEAT = "ep-sam"


class Where(StrEnum):
    """The part of a slide that is looked at."""

    VIEW = "What is in view"
    REGION = "Drawn region"
    WHOLE = "Whole slide"


@dataclass(frozen=True)
class Wish:
    """What the user has chosen.

    Parameters
    ----------
    model : str
    where : Where
    least_score : float
    class_name : str, optional
        None leaves the class to the model.
    heat : bool
        Map the heat alone, see `Automation.has_heat`.
    """

    model: str
    where: Where
    least_score: float = 0.0
    class_name: str | None = None
    heat: bool = False


class Automation:
    """Runs models over the slide at work, one run at a time.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
    dispatcher : Dispatcher
        Brings the news of new objects to the window's thread.

    Notes
    -----
    ``changed()`` is emitted when a run begins, pauses, goes on or ends, and when the region or
    slide changes; ``said(str)`` carries sentences for the user. What maps regions shows its map
    through ``regions``.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, workbench: Workbench, jobs: JobRunner, dispatcher: Dispatcher) -> None:
        self._workbench = workbench
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._controller: Controller | None = None
        self._loaded: tuple[str, Any] | None = None
        self.running: RunningJob | None = None
        self.pause = PauseSwitch()
        self.outcome: Outcome | RegionOutcome | None = None
        self.regions = RegionView(jobs, dispatcher)
        self.regions.said.connect(self.said.emit)

    # -- what there is -----------------------------------------------------------------------

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session; a run on the old one stops, and can go on later."""
        self.cancel()
        self.running = None
        self.outcome = None
        if self._controller is not None:
            self._controller.region_changed.disconnect(self._on_region)
        self._controller = controller
        self.regions.show_controller(controller)
        if controller is not None:
            controller.region_changed.connect(self._on_region)
        self.changed.emit()

    def models(self) -> list[ModelCard]:
        """Return the cards of all models that find objects, or map regions, by themselves."""
        return [c for c in self._workbench.registry.cards().values() if c.finds is not None]

    def maps(self, name: str) -> bool:
        """Tell whether a model maps regions."""
        return bool(name) and self._workbench.registry.get(name).finds == "regions"

    def trouble(self, wish: Wish) -> str:
        """Return why a wish cannot be granted and what to do, in a sentence; else nothing."""
        registry, controller = self._workbench.registry, self._controller
        if controller is None:
            return "Open a slide first."
        if not wish.model:
            return "No model here finds objects by itself: import one in the Annotate tab."
        if controller.session.store.read_only:
            return controller.session.store.read_only_reason or "The objects are read-only."
        if not registry.is_ready(wish.model):
            if not registry.get(wish.model).takes:
                return (
                    f"The weights of {wish.model} are not on this computer: train one in the Learn "
                    "tab, or import a file that you have (histosam models import FILE)."
                )
            return (
                f"The weights of {wish.model} are not on this computer: choose it in the Annotate "
                "tab to download or import them."
            )
        if registry.needs_consent(wish.model):
            return f"Choose {wish.model} in the Annotate tab first, to read and accept its licence."
        if wish.where is Where.REGION and controller.region is None:
            return "Press Draw, then draw a line around the region on the slide."
        return ""

    def plan(self, wish: Wish) -> TilePlan:
        """Return the tiles of a wish as things are now.

        Raises
        ------
        InputError
            If it cannot be granted.
        """
        controller = self._controller
        trouble = self.trouble(wish)
        if trouble or controller is None:
            raise InputError(trouble)
        region: BaseGeometry | None = None
        if wish.where is Where.VIEW:
            region = shapely.box(*controller.view)
        elif wish.where is Where.REGION:
            region = controller.region
        lay = plan_regions if self.maps(wish.model) else plan_tiles
        return lay(controller.session.slide, self._workbench.registry.get(wish.model), region)

    def has_heat(self, name: str) -> bool:
        """Tell whether a model can show its heat map alone."""
        return bool(name) and self._workbench.registry.get(name).decoder == _WITH_HEAT

    # -- running -----------------------------------------------------------------------------

    def start(self, wish: Wish) -> RunningJob:
        """Begin a run, or go on with one that was stopped.

        Raises
        ------
        InputError
            If a run is under way already, or the wish cannot be granted.
        """
        if self.running is not None:
            raise InputError("A run is under way; wait for it or cancel it.")
        plan, controller = self.plan(wish), self._controller
        assert controller is not None  # else there was no plan
        self.pause = pause = PauseSwitch()
        work = self._mapping(wish, plan) if self.maps(wish.model) else self._finding(wish, plan)

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> Any:
            report(Progress(0, None, f"Loading {wish.model}"))
            try:
                return work(report, cancel, pause)
            except HistosamError:
                if cancel.cancelled:  # the slide was closed meanwhile; what is kept is kept
                    raise Cancelled("The run was stopped; start it again to go on.") from None
                raise

        what = "Mapping regions" if self.maps(wish.model) else "Finding objects"
        running = self._jobs.start(f"{what} with {wish.model}", job)
        self.running, self.outcome = running, None
        running.finished.connect(lambda outcome: self._ended(running, outcome))
        running.failed.connect(lambda _error: self._ended(running, None))
        running.cancelled.connect(lambda: self._ended(running, None))
        self.changed.emit()
        return running

    def hold(self) -> None:
        """Pause the run, or let it go on."""
        if self.pause.paused:
            self.pause.go_on()
        else:
            self.pause.pause()
        self.changed.emit()

    def cancel(self) -> None:
        """Stop the run after the tile at hand; what was found stays."""
        if self.running is not None:
            self.running.cancel()

    @property
    def last(self) -> Run | None:
        """The run on this slide that was begun last, be it on an earlier day."""
        if self._controller is None:
            return None
        return RunJournal(self._controller.session.store).last()

    def found(self) -> list[str]:
        """Return the ids of the objects of the last run that are still there."""
        run = self.last
        if run is None or self._controller is None:
            return []
        return RunJournal(self._controller.session.store).ids(run)

    # -- inside ------------------------------------------------------------------------------

    def _finding(self, wish: Wish, plan: TilePlan) -> Work:
        assert self._controller is not None
        session = self._controller.session
        request = AutomateRequest(plan, wish.least_score, wish.class_name, author=session.author)
        news = _News(session.store, self._dispatcher)

        def work(
            report: Callable[[Progress], None], cancel: CancelToken, pause: PauseSwitch
        ) -> Outcome:
            return automate(
                session.slide,
                session.store,
                self._model(wish.model),
                request,
                report=report,
                cancel=cancel,
                pause=pause,
                announce=news.tell,
            )

        return work

    def _mapping(self, wish: Wish, plan: TilePlan) -> Work:
        settings = usual_settings(self._workbench.registry.get(wish.model))

        def load() -> Any:
            model = self._model(wish.model)
            if not wish.heat:
                return model
            from napari_histosam.models.ep_sam.heat import HeatModel

            return HeatModel(model)

        return self.regions.run(plan, load, settings)

    def _model(self, name: str) -> Any:
        """Return a model; the last one is kept, for loading takes long."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            loaded = self._workbench.registry.load(name, say=self._say)
            self._loaded = (name, loaded)
        return self._loaded[1]

    def _say(self, text: str) -> None:
        self._dispatcher.call(lambda: self.said.emit(text))

    def _ended(self, running: RunningJob, outcome: Outcome | RegionOutcome | None) -> None:
        if running is not self.running:
            return
        self.running = None
        self.outcome = outcome
        if outcome is not None:
            self.said.emit(outcome.text)
        self.changed.emit()

    def _on_region(self, _region: object) -> None:
        self.changed.emit()


class _News:
    """Tells the window of changes that a job has made, several at a time.

    Parameters
    ----------
    store : ObjectStore
    dispatcher : Dispatcher
    """

    def __init__(self, store: ObjectStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._lock = threading.Lock()
        self._waiting: list[Change] = []

    def tell(self, change: Change) -> None:
        """Have a change announced soon; from the job's thread."""
        with self._lock:
            self._waiting.append(change)
            if len(self._waiting) > 1:
                return
        self._dispatcher.later(_TELL_S, self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            changes, self._waiting = self._waiting, []
        self._store.changed.emit(
            Change(
                added=tuple(key for change in changes for key in change.added),
                bounds=merged({area for change in changes for area in change.bounds}),
                classes_changed=any(change.classes_changed for change in changes),
                label=changes[-1].label,
            )
        )
