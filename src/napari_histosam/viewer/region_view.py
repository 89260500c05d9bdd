"""The map of regions that a window shows: its layers, what would become areas, and the objects."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import explained
from napari_histosam.geometry.window import Window
from napari_histosam.home import home
from napari_histosam.jobs import Progress
from napari_histosam.session.regions import (
    AreaSettings,
    RegionMap,
    RegionRequest,
    areas,
    estimate,
    map_regions,
    objects_of,
    region_key,
)
from napari_histosam.store import RunJournal
from napari_histosam.viewer import layers as make
from napari_histosam.viewer.overlays import Overlay
from napari_histosam.viewer.pyramid import OptimisticPyramid
from napari_histosam.viewer.refresh import Refresher
from napari_histosam.viewer.region_tiles import AreaTiles, ProbabilityTiles, touched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from napari.layers import Layer

    from napari_histosam.jobs import CancelToken, Dispatcher, JobRunner, PauseSwitch, RunningJob
    from napari_histosam.session.automate import TilePlan
    from napari_histosam.session.regions import RegionOutcome
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.frame import SlideFrame

    Box = tuple[int, int, int, int]

# What has got better on disk is drawn this often.
_DRAW_S = 0.4
_BYTES = 64 << 20


class MapOverlay(Overlay):
    """A lazy layer in map px.

    Parameters
    ----------
    controller : Controller
    dispatcher : Dispatcher, optional
    source : RegionMap
    tiles : TilePyramid
    add : callable
        Makes the layer of a pyramid and of what places it.
    dtype : type
        Of the tiles.
    """

    def __init__(
        self,
        controller: Controller,
        dispatcher: Dispatcher | None,
        source: RegionMap,
        tiles: Any,
        add: Callable[[OptimisticPyramid, dict[str, Any]], Layer],
        dtype: type[np.generic],
    ) -> None:
        self._source = source
        super().__init__(
            controller.viewer,
            controller.frame,
            lambda frame: add(self.pyramid, self._place(frame)),
        )
        self.pyramid = OptimisticPyramid(
            tiles, dispatcher, channels=0, fill=0, max_bytes=_BYTES, threads=1, dtype=dtype
        )
        self._refresher = Refresher(dispatcher, lambda layer: self.present and self.owns(layer))
        self.pyramid.improved.connect(self._refresh)

    def set_frame(self, frame: SlideFrame) -> None:
        """Follow the slide to another place or scale."""
        self._frame = frame
        if self.present:
            for name, value in self._place(frame).items():
                setattr(self._layer, name, value)

    def remove(self) -> None:
        """Stop loading and take the layer out."""
        self.pyramid.close()
        super().remove()

    def _place(self, frame: SlideFrame) -> dict[str, Any]:
        (high, wide), (sx, sy) = self._source.shapes[0], self._source.scale
        return frame.window_layer(Window(wide * sx / 2, high * sy / 2, (sx, sy), (wide, high)))

    def _refresh(self) -> None:
        if self.present:
            self._refresher.refresh(self.layer())


class RegionView:
    """Shows one map at a time, while it is made and afterwards.

    Parameters
    ----------
    jobs : JobRunner
    dispatcher : Dispatcher
        Brings news to the window's thread.

    Notes
    -----
    ``changed()`` is emitted when another map is shown, it has grown, or its settings change;
    ``said(str)`` carries sentences for the user.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, jobs: JobRunner, dispatcher: Dispatcher) -> None:
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._controller: Controller | None = None
        self._overlays: list[MapOverlay] = []
        self._tiles: AreaTiles | None = None
        self._boxes: list[Box] = []
        self.map: RegionMap | None = None
        self.settings = AreaSettings()
        self.working: RunningJob | None = None

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session; its map is no longer shown."""
        self.close()
        self.working = None
        if self._controller is not None:
            self._controller.frame_changed.disconnect(self.set_frame)
        self._controller = controller
        if controller is not None:
            controller.frame_changed.connect(self.set_frame)

    def run(
        self,
        plan: TilePlan,
        load: Callable[[], Any],
        settings: AreaSettings,
    ) -> Callable[[Callable[[Progress], None], CancelToken, PauseSwitch], RegionOutcome]:
        """Return the work that maps a plan and shows the map from its first window on."""
        controller = self._controller
        assert controller is not None
        slide = controller.session.slide

        def work(
            report: Callable[[Progress], None], cancel: CancelToken, pause: PauseSwitch
        ) -> RegionOutcome:
            model = load()
            request = RegionRequest(plan)
            folder = home() / "maps" / f"{region_key(slide, model, request)[:24]}.ome.zarr"

            def announce(box: Box) -> None:
                self._dispatcher.call(lambda: self._keep_up(controller, folder, settings, box))

            outcome = map_regions(
                slide,
                model,
                request,
                folder,
                report=report,
                cancel=cancel,
                pause=pause,
                announce=announce,
            )
            self._dispatcher.call(lambda: self._keep_up(controller, folder, settings, None))
            return outcome

        return work

    def show(self, folder: Path, settings: AreaSettings) -> None:
        """Show a map of the slide at work, with what would become areas.

        Raises
        ------
        InputError
            If there is no map in the folder.
        """
        controller = self._controller
        if controller is None:
            return
        found = RegionMap(folder)
        self.close()
        self.map, self.settings = found, settings
        self._tiles = AreaTiles(found, settings)
        for kind, name in enumerate(found.classes):
            self._add(controller, ProbabilityTiles(found, kind), self._probabilities(name), True)
        self._add(controller, self._tiles, self._outlines(found.classes), False)
        self.changed.emit()

    def set_settings(self, settings: AreaSettings) -> None:
        """Show what would become areas with other settings."""
        if self._tiles is None or settings == self.settings:
            return
        self.settings = self._tiles.settings = settings
        self._overlays[-1].pyramid.outdate_all()
        self.changed.emit()

    def shares(self) -> dict[str, float]:
        """Return about which share of the tissue each class has with the settings as they are."""
        return {} if self.map is None else estimate(self.map, self.settings)

    def make_objects(self, class_name: str | None = None) -> RunningJob:
        """Make objects of the map; those made of it before and not touched since give way.

        Raises
        ------
        InputError
            If no map is shown, or objects are being made.
        """
        controller, found, settings = self._controller, self.map, self.settings
        if controller is None or found is None or self.working is not None:
            raise InputError("There is no map to make objects of; run a model first.")
        session = controller.session
        store = session.store

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> int:
            def step(share: float) -> None:
                cancel.check()
                report(Progress(round(100 * share), 100, "Drawing the areas"))

            made = objects_of(
                areas(RegionMap(found.folder), settings, step=step),
                found,
                author=session.author,
                class_name=class_name,
            )
            return self._keep(store, found, made, class_name)

        running = self._jobs.start(f"Making objects of {found.about['model']}'s map", job)
        self.working = running
        running.finished.connect(lambda count: self._made(running, count))
        running.failed.connect(lambda _error: self._made(running, None))
        running.cancelled.connect(lambda: self._made(running, None))
        self.changed.emit()
        return running

    def save(self, folder: Path) -> None:
        """Copy the map, an OME-Zarr, to a folder that is not there yet.

        Raises
        ------
        InputError
            If no map is shown, its run has not ended, or the copy cannot be written.
        """
        if self.map is None or not RegionMap(self.map.folder).finished:
            raise InputError("The map is not complete yet; let its run end first.")
        if folder.exists():
            raise InputError(f"{folder} is there already; choose another name.")
        part = folder.with_name(folder.name + ".part")
        with explained(folder, "write"):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.map.folder, part)
            part.rename(folder)
        self.said.emit(f"The map is saved as {folder}.")

    def close(self) -> None:
        """Take the layers out."""
        overlays, self._overlays = self._overlays, []
        for overlay in overlays:
            overlay.remove()
        self.map, self._tiles = None, None
        if overlays:
            self.changed.emit()

    def set_frame(self, frame: SlideFrame) -> None:
        """Follow the slide to another place or scale."""
        for overlay in self._overlays:
            overlay.set_frame(frame)

    # -- inside ------------------------------------------------------------------------------

    def _add(self, controller: Controller, tiles: Any, add: Any, likely: bool) -> None:
        import numpy as np

        assert self.map is not None
        dtype = np.float32 if likely else np.uint8
        overlay = MapOverlay(controller, self._dispatcher, self.map, tiles, add, dtype)
        self._overlays.append(overlay)
        overlay.layer()

    def _probabilities(self, name: str) -> Callable[[OptimisticPyramid, dict[str, Any]], Layer]:
        viewer = self._controller.viewer if self._controller else None
        return lambda pyramid, place: make.add_probabilities(viewer, pyramid, place, name)

    def _outlines(
        self, classes: tuple[str, ...]
    ) -> Callable[[OptimisticPyramid, dict[str, Any]], Layer]:
        viewer = self._controller.viewer if self._controller else None
        return lambda pyramid, place: make.add_would_be(viewer, pyramid, place, classes)

    def _keep_up(
        self, controller: Controller, folder: Path, settings: AreaSettings, box: Box | None
    ) -> None:
        """Show a map that grows; on the window's thread."""
        if controller is not self._controller or controller.closed:
            return
        if self.map is None or self.map.folder != folder:
            self.show(folder, settings)
            return
        if box is None:
            for overlay in self._overlays:
                overlay.layer()  # a user may have removed it from the viewer
            self.changed.emit()
            return
        self._boxes.append(box)
        if len(self._boxes) == 1:
            self._dispatcher.later(_DRAW_S, self._redraw)

    def _redraw(self) -> None:
        boxes, self._boxes = self._boxes, []
        if self.map is None:
            return
        keys = [key for box in boxes for key in touched(self.map.shapes, box, reach=64)]
        for overlay in self._overlays:
            overlay.pyramid.outdate(list(dict.fromkeys(keys)))
        self.changed.emit()

    def _keep(self, store: Any, found: RegionMap, made: list[Any], class_name: str | None) -> int:
        """Put objects into the store in place of earlier ones; on the job's thread."""
        journal, key = RunJournal(store), f"areas {found.about['key']}"
        before = journal.resumable(key, ended=True)
        old = [] if before is None else journal.ids(before)
        stale = [one.id for one in map(store.get, old) if _untouched(one)]
        about = {"model": found.about["model"], "map": found.about["key"]}
        run = journal.begin(key, f"Areas of {found.about['model']}", about)
        classes = (class_name,) if class_name else found.classes
        change = journal.add(run, {0: {"objects": len(made)}}, made, classes)
        journal.end(run)

        def tell() -> None:
            if change is not None:
                store.changed.emit(change)
            if stale:
                store.delete(stale, "Areas made anew")

        self._dispatcher.call(tell)
        return len(made)

    def _made(self, running: RunningJob, count: int | None) -> None:
        if running is not self.working:
            return
        self.working = None
        if count is not None:
            what = "object" if count == 1 else "objects"
            self.said.emit(f"{count:,} {what} made of the map." if count else NOTHING)
        self.changed.emit()


NOTHING = "Nothing on the map reaches the threshold and the least size, so no object was made."


def _untouched(one: Any) -> bool:
    return one.review is None and one.modified == one.created
