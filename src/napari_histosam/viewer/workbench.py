"""The slides of one viewer and the session at work on one of them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.home import home
from napari_histosam.models import EmbeddingCache, ModelRegistry
from napari_histosam.session import DEFAULT_MODEL, Session
from napari_histosam.slide import open_array, open_slide
from napari_histosam.store import open_store_for
from napari_histosam.viewer.controller import Controller
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.reader import layer_data, slide_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.slide import Slide


class Workbench:
    """Opens slides in one viewer and keeps one session going.

    Parameters
    ----------
    viewer : ViewerModel
    dispatcher : Dispatcher, optional
        Brings background results to the window's thread.
    registry : ModelRegistry, optional

    Notes
    -----
    Signals: ``controller_changed(Controller or None)``, ``slides_changed()``, ``said(str)``.
    """

    controller_changed = Signal(object)
    slides_changed = Signal()
    said = Signal(str)

    def __init__(
        self,
        viewer: ViewerModel,
        dispatcher: Dispatcher | None = None,
        registry: ModelRegistry | None = None,
    ) -> None:
        self.viewer = viewer
        self.registry = registry or ModelRegistry()
        self.cache = EmbeddingCache(home() / "cache" / "embeddings")
        self.controller: Controller | None = None
        self.model = DEFAULT_MODEL
        self._dispatcher = dispatcher
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        slides = self.slide_layers()
        if slides:
            self.work_on(slides[-1])

    # -- slides ------------------------------------------------------------------------------

    def open(self, path: str | Path) -> Image:
        """Open a slide file as a layer and begin to work on it."""
        return self.show(open_slide(path))

    def show(self, slide: Slide) -> Image:
        """Show an open slide as a layer and begin to work on it."""
        data, kwargs, _ = layer_data(slide, self._dispatcher, self.viewer)
        layer = self.viewer.add_image(data, **kwargs)
        self.viewer.reset_view()
        return layer  # type: ignore[return-value]

    def adopt(self, layer: Image) -> None:
        """Work on an RGB image layer that another plugin or the user opened.

        Raises
        ------
        InputError
            If it is not a two-dimensional RGB image.
        """
        if not getattr(layer, "rgb", False) or layer.ndim != 2:
            raise InputError(
                f"The layer {layer.name} is not a two-dimensional RGB image; choose one that is."
            )
        levels = list(layer.data) if layer.multiscale else [layer.data]
        slide = open_array(levels, _mpp_of(layer), layer.name)
        SlideFrame.of_layer(layer)  # refuses what cannot be worked on before anything changes
        layer.metadata["histosam_slide"] = slide
        self.slides_changed.emit()
        self.work_on(layer)

    def slide_layers(self) -> list[Image]:
        """Return the layers that show slides, in the viewer's order."""
        return [x for x in self.viewer.layers if x.metadata.get("histosam_slide") is not None]

    def other_images(self) -> list[Image]:
        """Return the RGB images that could be adopted."""
        return [
            x
            for x in self.viewer.layers
            if getattr(x, "rgb", False) and x.ndim == 2 and "histosam_slide" not in x.metadata
        ]

    def work_on(self, layer: Image) -> None:
        """End the session at work and begin one on this layer's slide."""
        if self.controller is not None and self.controller.layer == layer:
            return
        self._end()
        slide = slide_of(layer)
        path = Path(slide.path) if slide.path else None
        author = _user()
        try:
            store = open_store_for(path, slide.identity, slide.name, author=author)
        except HistosamError as error:
            self.said.emit(str(error))
            return
        session = Session(
            slide,
            store=store,
            model=self.model,
            registry=self.registry,
            cache=self.cache,
            author=author,
            dispatcher=self._dispatcher,
        )
        self.controller = Controller(
            self.viewer, session, layer, SlideFrame.of_layer(layer), self._dispatcher
        )
        self.controller.said.connect(self._say)
        self._scale_bar()
        self.controller_changed.emit(self.controller)
        if store.read_only:
            self.said.emit(store.read_only_reason or "The objects are open for reading only.")
        elif store.note:
            self.said.emit(store.note)

    def set_model(self, name: str) -> None:
        """Use another model, for this session and the next ones."""
        if self.controller is not None:
            self.controller.session.set_model(name)
        self.model = name

    def set_mpp(self, x: float, y: float) -> None:
        """Give the slide at work its µm per level-0 px; it is remembered for next time."""
        if self.controller is None:
            raise InputError("Open a slide first, then set its scale.")
        self.controller.session.slide.set_mpp((x, y))
        self.controller.set_frame(self.controller.frame.with_mpp((x, y)))
        self.viewer.reset_view()
        self._scale_bar()
        self.controller_changed.emit(self.controller)

    def close(self) -> None:
        """End the session and let go of the viewer."""
        self._end()
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)

    # -- inside ------------------------------------------------------------------------------

    def _end(self) -> None:
        if self.controller is None:
            return
        ended, self.controller = self.controller, None
        ended.close()
        ended.session.close()
        ended.session.store.close()
        self.controller_changed.emit(None)

    def _on_inserted(self, event: Any) -> None:
        if event.value.metadata.get("histosam_slide") is not None:
            self.work_on(event.value)
        self.slides_changed.emit()

    def _on_removed(self, event: Any) -> None:
        if self.controller is not None and event.value == self.controller.layer:
            self._end()
            rest = self.slide_layers()
            if rest:
                self.work_on(rest[-1])
        self.slides_changed.emit()

    def _say(self, text: str) -> None:
        self.said.emit(text)

    def _scale_bar(self) -> None:
        self.viewer.canvas.overlays.scale_bar.visible = True


def _mpp_of(layer: Image) -> tuple[float, float] | None:
    """Return a layer's µm per px along x and y, or None if its units are not lengths."""
    factors = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4}
    names = [str(u) for u in layer.units[-2:]]
    if any(n not in factors for n in names):
        return None
    sy, sx = (float(s) * factors[n] for s, n in zip(layer.scale[-2:], names, strict=True))
    return sx, sy


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
