"""Shows what an EP-SAM takes for tumour in the patches of the view, with a threshold seen live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.jobs import Progress
from napari_histosam.viewer.overlays import Overlay

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray
    from psygnal import SignalInstance

    from napari_histosam.geometry.grid import Cell, PatchGrid
    from napari_histosam.jobs import CancelToken, Dispatcher, JobRunner, RunningJob
    from napari_histosam.models import ModelRegistry
    from napari_histosam.models.ep_sam.cam import Heat, Profile
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.frame import SlideFrame

# Patches of one look: on a processor each takes seconds.
MOST = 36
# Px of the layer for each patch.
_PX = 64
_COLOURS = (
    (0.20, 0.05, 0.45, 0.00),
    (0.35, 0.05, 0.60, 0.45),
    (0.85, 0.15, 0.35, 0.60),
    (0.98, 0.60, 0.10, 0.70),
    (1.00, 0.95, 0.30, 0.80),
)


class HeatShower(Protocol):
    """Shows where a model sees tumour; ``changed()`` tells that what is shown has changed."""

    changed: SignalInstance

    @property
    def percentile(self) -> float | None:
        """The threshold that is chosen; None where there is nothing to choose yet."""
        ...

    @property
    def text(self) -> str:
        """What is shown, in a sentence; empty while nothing is."""
        ...

    def show(self, model: str) -> RunningJob:
        """Have a model look; an `InputError` says why it cannot."""
        ...

    def set_percentile(self, percentile: float) -> None:
        """Choose the threshold, and show what is above it."""
        ...

    def hide(self) -> None:
        """Take the heat away."""
        ...


class ViewHeat:
    """A `HeatShower` over the patches of the view, at most `MOST` of them.

    Parameters
    ----------
    controller : Controller
    registry : ModelRegistry
    jobs : JobRunner
    dispatcher : Dispatcher, optional
        Brings each patch to the window as soon as it is done.
    """

    changed = Signal()

    def __init__(
        self,
        controller: Controller,
        registry: ModelRegistry,
        jobs: JobRunner,
        dispatcher: Dispatcher | None,
    ) -> None:
        self._controller, self._registry = controller, registry
        self._jobs, self._dispatcher = jobs, dispatcher
        self._layer = _HeatLayer(controller.viewer, controller.frame)
        self._model: tuple[str, Any] | None = None
        self._running: RunningJob | None = None
        self._look = object()
        self._grid: PatchGrid | None = None
        self._wanted: list[Cell] = []
        self._found: dict[Cell, tuple[float, Heat]] = {}
        self._profile: Profile | None = None

    @property
    def percentile(self) -> float | None:
        """The threshold that is chosen."""
        return None if self._profile is None else self._profile.percentile

    @property
    def text(self) -> str:
        """What is shown, in a sentence."""
        if not self._found:
            return ""
        likely = sum(tumour >= 0.5 for tumour, _ in self._found.values())
        of = len(self._found)
        left = len(self._wanted) - of
        rest = f", {left} to go" if left and self._running is not None else ""
        return f"{likely} of {of} patches in view are taken for tumour{rest}."

    def show(self, model: str) -> RunningJob:
        """Have a model look at the patches in view, from the middle outwards.

        Raises
        ------
        InputError
            If no patch is in view.
        """
        controller, grid = self._controller, self._controller.patches.grid
        cells = _in_view(grid, controller.view)
        if not cells:
            raise InputError("The slide is not in view; move to where the model shall look.")
        self.hide()
        self._grid, self._wanted = grid, cells
        self._look = look = object()
        slide = controller.session.slide
        # A patch has as many px as the model looks at, whatever it covers.
        side = self._registry.get(model).window_px
        scale = (grid.side[0] / side, grid.side[1] / side)

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> None:
            report(Progress(0, None, f"Loading {model}"))
            net = self._loaded(model)
            for done, cell in enumerate(cells):
                cancel.check()
                report(Progress(done, len(cells), "Looking at patches"))
                window = Window(*grid.middle(*cell), scale, (side, side))
                said = net.heat(slide.read(window))
                self._deliver(look, cell, said, net)

        self._running = running = self._jobs.start(f"Heat of the view with {model}", job)
        for ended in (running.finished, running.failed, running.cancelled):
            ended.connect(lambda *_: self._ended(running))
        return running

    def set_percentile(self, percentile: float) -> None:
        """Choose the threshold: what is warmer than so many percent of a patch's warm cells."""
        if self._profile is not None and percentile != self._profile.percentile:
            self._profile = replace(self._profile, percentile=percentile)
            self._draw()
            self.changed.emit()

    def hide(self) -> None:
        """Stop looking, and take the layer out."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        self._look = object()
        self._found, self._wanted = {}, []
        self._layer.remove()
        self.changed.emit()

    def _loaded(self, name: str) -> Any:
        from napari_histosam.models.trained import base_hash

        # A model that was taught on keeps its name.
        key = f"{name}:{base_hash(self._registry, name)}"
        if self._model is None or self._model[0] != key:
            self._model = None
            self._model = (key, self._registry.load(name))
        return self._model[1]

    def _deliver(self, look: object, cell: Cell, said: tuple[float, Heat], net: Any) -> None:
        def take() -> None:
            if look is not self._look or self._controller.closed:
                return
            if self._profile is None:
                self._profile = net.recipe.profile
            self._found[cell] = said
            self._draw()
            self.changed.emit()

        if self._dispatcher is None:
            take()
        else:
            self._dispatcher.call(take)

    def _ended(self, running: RunningJob) -> None:
        if running is self._running:
            self._running = None
            self.changed.emit()

    def _draw(self) -> None:
        if self._grid is None or self._profile is None or not self._wanted:
            return
        cells = np.array(self._wanted)
        (left, top), (right, bottom) = cells.min(0), cells.max(0) + 1
        canvas = np.zeros(((bottom - top) * _PX, (right - left) * _PX), np.float32)
        for (column, row), (tumour, heat) in self._found.items():
            x, y = (column - left) * _PX, (row - top) * _PX
            canvas[y : y + _PX, x : x + _PX] = _warm(heat, self._profile) * tumour
        w, h = self._grid.side
        window = Window(
            (left + right) / 2 * w,
            (top + bottom) / 2 * h,
            (w / _PX, h / _PX),
            (canvas.shape[1], canvas.shape[0]),
        )
        self._layer.show(canvas, window)
        self._controller.keys.bind(self._layer.layer())


class _HeatLayer(Overlay):
    """The heat as one picture."""

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        super().__init__(viewer, frame, lambda frame: _add(viewer, frame))

    def show(self, heat: NDArray[np.float32], window: Window) -> None:
        layer: Image = self.layer()
        place = self._frame.window_layer(window)
        layer.data = heat
        layer.scale, layer.translate = place["scale"], place["translate"]


def _warm(heat: Heat, profile: Profile) -> NDArray[np.float32]:
    """Return what of a patch's heat is above the threshold, as the masks to learn from are cut."""
    size = (_PX, _PX)
    mask = heat.mask(profile).astype(np.float32)
    share = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    warm = cv2.resize(heat.weights(), size, interpolation=cv2.INTER_AREA)
    return np.where(share >= 0.5, warm, 0).astype(np.float32)


def _in_view(grid: PatchGrid, view: tuple[float, float, float, float]) -> list[Cell]:
    """Return the cells in view, those in its middle first, no more than `MOST`."""
    left, top, right, bottom = view
    columns, rows = grid.seen(*view)
    x, y = (left + right) / 2, (top + bottom) / 2

    def away(cell: Cell) -> float:
        at = grid.middle(*cell)
        return max(abs(at[0] - x) / grid.side[0], abs(at[1] - y) / grid.side[1])

    return sorted(((c, r) for r in rows for c in columns), key=away)[:MOST]


def _add(viewer: ViewerModel, frame: SlideFrame) -> Image:
    from napari.utils.colormaps import Colormap

    return viewer.add_image(
        np.zeros((2, 2), np.float32),
        name="Heat",
        contrast_limits=(0.0, 1.0),
        colormap=Colormap(np.array(_COLOURS), name="histosam-heat"),
        blending="translucent",
        interpolation2d="linear",
        metadata={"histosam_overlay": "heat"},
        **frame.layer(),
    )
