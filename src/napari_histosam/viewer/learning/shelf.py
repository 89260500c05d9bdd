"""The slides to learn from: the open one, others of its folder, and those that the user adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.records import Provenance, SlideObject
from napari_histosam.train.dataset.kinds import REGION
from napari_histosam.train.dataset.patients import SETTING
from napari_histosam.viewer.learning import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.jobs import CancelToken, JobRunner, Progress, RunningJob
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.learning.sources import Advice, Teaching


class Shelf:
    """Knows what slides hold, and which of them are to be learned from.

    Parameters
    ----------
    jobs : JobRunner
        Stores are read in the background.

    Notes
    -----
    Signals: ``changed()`` and ``said(str)``.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, jobs: JobRunner) -> None:
        self.slides: list[Teaching] = []
        self._jobs = jobs
        self._controller: Controller | None = None
        self._added: list[Path] = []
        self._left_out: set[str] = set()
        self._known: dict[Path, tuple[Any, list[Teaching]]] = {}
        self._reading: RunningJob | None = None

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        self._controller = controller

    def read(self) -> RunningJob:
        """Read, in the background, what the slides hold now."""
        if self._reading is not None:
            self._reading.cancel()
        controller, added = self._controller, list(self._added)

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> Any:
            return self._survey(controller, added, cancel.check)

        self._reading = reading = self._jobs.start("Reading what there is to learn from", job)

        def arrived(found: tuple[list[Teaching], list[str]]) -> None:
            if reading is not self._reading:
                return
            self.slides, troubles = found
            self.changed.emit()
            for trouble in troubles:
                self.said.emit(trouble)

        reading.finished.connect(arrived)
        return reading

    def add(self, paths: Iterable[Path]) -> RunningJob:
        """Learn from further slides or stores, too; return the reading of them.

        Raises
        ------
        InputError
            If one of them only accompanies a store.
        """
        for path in paths:
            known = sources.check_path(path.absolute())
            if known not in self._added:
                self._added.append(known)
        return self.read()

    def name_patient(self, key: str, patient: str) -> RunningJob | None:
        """Say of which patient a slide is, so that the patient's slides are never split.

        Returns
        -------
        RunningJob or None
            The reading that follows; None if there is no such slide.

        Raises
        ------
        InputError
            If the slide at work may not be edited. Of other slides, ``said`` tells it.
        """
        one = next((one for one in self.slides if one.key == key), None)
        if one is None or one.patient == patient.strip():
            return None
        session = None if self._controller is None else self._controller.session
        if session is not None and session.slide.identity == key:
            try:
                session.store.set_setting(SETTING, patient.strip())
            finally:
                reading = self.read()
            return reading

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> None:
            sources.name_patient(one, patient)

        keeping = self._jobs.start(f"Keeping the patient of {one.name}", job)

        def failed(error: BaseException) -> None:
            self.said.emit(str(error))
            self.changed.emit()

        keeping.failed.connect(failed)
        keeping.finished.connect(lambda _: self.read())
        return keeping

    def mark_region(self) -> None:
        """Mark what is on screen as an area in which everything is labelled.

        Raises
        ------
        InputError
            If no slide is open, none of it is on screen, or it may not be edited.
        """
        from shapely import box

        if self._controller is None:
            raise InputError("No slide is open; open one and zoom to what is fully labelled.")
        slide, store = self._controller.session.slide, self._controller.session.store
        area = box(*self._controller.view).intersection(box(0, 0, slide.width, slide.height))
        if area.area <= 0:
            raise InputError("The slide is not in view; move to what is fully labelled.")
        region = SlideObject(area, REGION, provenance=Provenance("manual"))
        store.add([region], "Mark as fully labelled")

    def tick(self, key: str, on: bool) -> None:
        """Learn from a slide, or leave it out."""
        (self._left_out.discard if on else self._left_out.add)(key)
        self.changed.emit()

    def ticked(self, key: str) -> bool:
        """Whether a slide is to be learned from."""
        return key not in self._left_out

    @property
    def chosen(self) -> list[Teaching]:
        """The slides that are to be learned from."""
        return [one for one in self.slides if self.ticked(one.key) and one.count]

    @property
    def advice(self) -> Advice:
        """Whether the chosen slides suffice."""
        return sources.advice(self.chosen)

    def _survey(
        self, controller: Controller | None, added: list[Path], step: Callable[[], None]
    ) -> tuple[list[Teaching], list[str]]:
        found: dict[str, Teaching] = {}
        troubles: list[str] = []
        near: list[Path] = []
        if controller is not None:
            slide = controller.session.slide
            mine = sources.survey_open(slide, controller.session.store, step)
            if mine is None:
                troubles.append(
                    f"{slide.name} has no file, so nothing can be learned from it: save it first."
                )
            else:
                found[mine.key] = mine
                near = sources.nearby(Path(str(slide.path)))
        for path in [*added, *near]:
            step()
            try:
                for one in self._surveyed(path, step):
                    if one.count or path in added:
                        found.setdefault(one.key, one)
            except HistosamError as error:
                # What the user named is missed; a stray file in the folder is not.
                if path in added:
                    troubles.append(str(error))
        return list(found.values()), troubles

    def _surveyed(self, path: Path, step: Callable[[], None]) -> list[Teaching]:
        """Return what a file holds, read again only after it has changed."""
        state = sources.state_of(path)
        known = self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = (state, sources.survey(path, step))
        return known[1]
