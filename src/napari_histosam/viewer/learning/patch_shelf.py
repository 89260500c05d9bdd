"""The slides whose patch labels are learned from: the open one and others of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import HistosamError
from napari_histosam.store.places import SUFFIX
from napari_histosam.train.dataset.patch_sources import read_patch_source
from napari_histosam.train.dataset.patients import SETTING
from napari_histosam.viewer.learning.sources import nearby, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.jobs import CancelToken, JobRunner, Progress, RunningJob
    from napari_histosam.train.dataset.patch_sources import PatchSource
    from napari_histosam.viewer.controller import Controller


@dataclass(frozen=True)
class Labelled:
    """One slide and its labels of patches of the chosen size."""

    name: str
    path: Path
    tumour: int
    normal: int
    patient: str = ""


class PatchShelf:
    """Knows which slides have patch labels.

    Parameters
    ----------
    jobs : JobRunner
        Stores of other slides are read in the background.

    Notes
    -----
    Signals: ``changed()``.
    """

    changed = Signal()

    def __init__(self, jobs: JobRunner) -> None:
        self._jobs = jobs
        self._controller: Controller | None = None
        self._others: list[PatchSource] = []
        self._known: dict[Path, tuple[Any, PatchSource | None]] = {}
        self._reading: RunningJob | None = None

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        self._controller = controller
        self._others = []
        self.changed.emit()

    @property
    def trouble(self) -> str:
        """Why nothing can be learned from the open slide; else nothing."""
        if self._controller is None:
            return "Open a slide first."
        if self._controller.session.slide.path is None:
            return "This slide has no file, so nothing can be learned from it: save it first."
        return ""

    @property
    def slides(self) -> list[Labelled]:
        """Slides with labels of patches of the chosen size, the open one first."""
        controller = self._controller
        if controller is None or controller.session.slide.path is None:
            return []
        slide, work = controller.session.slide, controller.patches
        count = work.count
        patient = str(controller.session.store.setting(SETTING, "") or "").strip()
        found = [Labelled(slide.name, Path(str(slide.path)), count.tumour, count.normal, patient)]
        for one in self._others:
            # Micrometres are no px: such a slide cannot be learned from together with this one.
            if (one.mpp is None) == (slide.mpp is None):
                here = one.count(work.side)
                found.append(
                    Labelled(one.name, one.path, here["tumour"], here["normal"], one.patient)
                )
        return [one for one in found if one.tumour + one.normal]

    def read(self) -> RunningJob | None:
        """Read, in the background, what other slides of the folder hold now."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        controller = self._controller
        if controller is None or controller.session.slide.path is None:
            return None
        path = Path(str(controller.session.slide.path))

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> list[PatchSource]:
            return self._survey(path, cancel.check)

        self._reading = reading = self._jobs.start("Reading patch labels", job)

        def arrived(found: list[PatchSource]) -> None:
            if reading is self._reading:
                self._others = found
                self.changed.emit()

        reading.finished.connect(arrived)
        return reading

    def _survey(self, path: Path, step: Callable[[], None]) -> list[PatchSource]:
        found = []
        for store in nearby(path):
            step()
            slide = store.with_name(store.name.removesuffix(SUFFIX))
            state = state_of(store)
            known = self._known.get(store)
            if known is None or known[0] != state:
                try:
                    one = read_patch_source(slide) if slide.exists() else None
                except HistosamError:  # a stray file in the folder is nobody's concern
                    one = None
                known = self._known[store] = (state, one)
            if known[1] is not None and known[1].labels:
                found.append(known[1])
        return found
