"""The slides of one viewer and the session at work on one of them."""

from __future__ import annotations

import getpass
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.home import home
from napari_histosam.models import EmbeddingCache, ModelRegistry
from napari_histosam.session import Session
from napari_histosam.slide import open_array, open_slide
from napari_histosam.store import open_store_for
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.controller import Controller
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.learning.choice import Choice
from napari_histosam.viewer.reader import layer_data, slide_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.slide import Slide


class Workbench:
    """Opens slides in one viewer and keeps one session going.

    Parameters
    ----------
    viewer : ViewerModel
    dispatcher : Dispatcher, optional
        Brings background results to the window's thread while this is open.
    registry : ModelRegistry, optional
    tiles : Dispatcher, optional
        The same for the tiles of the slides that are opened here, which stay when this is closed.

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
        tiles: Dispatcher | None = None,
    ) -> None:
        self.viewer = viewer
        self.registry = registry or ModelRegistry()
        self.cache = EmbeddingCache(home() / "cache" / "embeddings")
        self.controller: Controller | None = None
        self.choice = Choice(self.registry)
        self.model = self.choice.model
        self._dispatcher = dispatcher
        self._tiles = tiles
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_renamed)
        slides = self.slide_layers()
        if slides:
            self.work_on(slides[-1])

    # -- slides ------------------------------------------------------------------------------

    def open(self, path: str | Path) -> Image:
        """Open a slide file as a layer and begin to work on it."""
        return self.show(open_slide(path))

    def show(self, slide: Slide) -> Image:
        """Show an open slide as a layer and begin to work on it."""
        data, kwargs, _ = layer_data(slide, self._tiles, self.viewer)
        layer = self.viewer.add_image(data, **kwargs)
        self.viewer.reset_view()
        return layer

    def adopt(self, layer: Image) -> None:
        """Work on an RGB image layer that another plugin or the user opened.

        Raises
        ------
        InputError
            If it is not a two-dimensional RGB image, or does not lie upright.
        """
        if not getattr(layer, "rgb", False) or layer.ndim != 2:
            raise InputError(
                f"The layer {layer.name} is not a two-dimensional RGB image; choose one that is."
            )
        frame = SlideFrame.of_layer(layer)
        levels = list(layer.data) if layer.multiscale else [layer.data]
        slide = open_array(levels, frame.um, layer.name)
        layer.metadata["histosam_slide"] = slide
        self.slides_changed.emit()
        self.work_on(layer)
        begun = self.controller
        if begun is None or begun.layer != layer:
            return
        if frame.um is None and slide.mpp is not None:
            # The user has said once how large its pixels are.
            begun.set_frame(frame.with_mpp(slide.mpp))

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
        slide, frame = slide_of(layer), SlideFrame.of_layer(layer)
        self._end()
        path = Path(slide.path) if slide.path else None
        author = _user()
        try:
            store = open_store_for(path, slide.identity, slide.name, author=author)
        except HistosamError as error:
            self.say(str(error))
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
        session.model_changed.connect(self._on_model)
        self.controller = Controller(self.viewer, session, layer, frame, self._dispatcher)
        self.controller.said.connect(self.say)
        self._scale_bar()
        self.controller_changed.emit(self.controller)
        if store.note:
            self.say(store.note)

    def take_over(self) -> None:
        """Ask for the right to change the objects, once the window that had it has gone."""
        if self.controller is None:
            return
        store = self.controller.session.store
        if store.become_writer():
            self.controller_changed.emit(self.controller)
            self.say("The objects can be changed here now.")
        else:
            self.say(store.read_only_reason or "The objects are open for reading only.")

    def set_model(self, name: str) -> None:
        """Use another model, for this session and, once it is loaded, the next ones."""
        if self.controller is not None:
            self.controller.session.set_model(name)
        else:
            self.model = name

    def set_mpp(self, x: float, y: float) -> None:
        """Give the slide at work its µm per level-0 px; it is remembered for next time."""
        if self.controller is None:
            raise InputError("Open a slide first, then set its scale.")
        self.controller.session.slide.set_mpp(x, y)
        self.controller.set_frame(self.controller.frame.with_mpp((x, y)))
        self.viewer.reset_view()
        self._scale_bar()
        self.controller_changed.emit(self.controller)

    def close(self) -> None:
        """End the session and let go of the viewer."""
        self._end()
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.layers.events.renamed.disconnect(self._on_renamed)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    # -- inside ------------------------------------------------------------------------------

    def _end(self) -> None:
        if self.controller is None:
            return
        ended, self.controller = self.controller, None
        ended.close()
        self.controller_changed.emit(None)
        ended.session.store.close()
        # An answer under way can take seconds; the window must not wait for it.
        threading.Thread(target=ended.session.close, name="histosam-let-go").start()

    @told
    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        display = layer.metadata.get("histosam_display")
        if display is not None:
            # The reader cannot tell for sure in which of several windows the layer lands.
            display.follow(self.viewer)
        if layer.metadata.get("histosam_slide") is not None:
            self.work_on(layer)
        self.slides_changed.emit()

    @told
    def _on_removed(self, event: Any) -> None:
        if self.controller is not None and event.value == self.controller.layer:
            self._end()
            rest = self.slide_layers()
            if rest:
                self.work_on(rest[-1])
        self.slides_changed.emit()

    def _on_renamed(self, _event: Any) -> None:
        self.slides_changed.emit()

    def _on_model(self, card: ModelCard) -> None:
        self.model = card.name

    def _scale_bar(self) -> None:
        self.viewer.canvas.overlays.scale_bar.visible = True


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
