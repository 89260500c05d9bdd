"""Keeps the layers that show a slide up to date, and lets go of the file when the last is gone."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import HistosamError
from napari_histosam.slide.cache import TileCache
from napari_histosam.viewer.colour import ColouredTiles
from napari_histosam.viewer.pyramid import OptimisticPyramid
from napari_histosam.viewer.refresh import PAUSE_SECONDS, Refresher

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.slide import Slide

_log = logging.getLogger(__name__)

DISPLAY_BYTES = 256 << 20
# Exact tiles from which the slide makes its virtual levels.
TILE_BYTES = 96 << 20


class SlideDisplay:
    """The display of one slide, in one layer or, where a user has copied it, in several.

    Parameters
    ----------
    slide : Slide
        Closed when the last layer that shows it is removed.
    dispatcher : Dispatcher, optional
        Given, tiles load in the background; without one, reads wait and are exact.
    """

    def __init__(self, slide: Slide, dispatcher: Dispatcher | None) -> None:
        self.slide = slide
        self._dispatcher = dispatcher
        self._tiles = slide.pyramid(cache=TileCache(TILE_BYTES))
        self.colours = ColouredTiles(self._tiles)
        self.pyramid = OptimisticPyramid(
            self.colours,
            dispatcher,
            channels=3,
            fill=slide.background,
            max_bytes=DISPLAY_BYTES,
        )
        self._layers: list[Any] = []
        self._refresher = Refresher(dispatcher, self._layers.__contains__, thumbnail=True)
        self._stop = threading.Event()
        self._builder: threading.Thread | None = None
        self.pyramid.improved.connect(self._refresh)

    def follow(self, viewer: ViewerModel) -> None:
        """Look after the layers that show this slide in a viewer; may be asked for twice."""
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        for layer in viewer.layers:
            self._attach(layer)

    def close(self) -> None:
        """Stop loading; the file is closed once the tiles under way are in."""
        if self._stop.is_set():
            return
        self._stop.set()
        self.pyramid.improved.disconnect(self._refresh)
        # A tile on a slow drive takes long; the window must not wait for it.
        threading.Thread(target=self._let_go, name="histosam-let-go").start()

    # -- inside ------------------------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._attach(event.value)

    def _on_removed(self, event: Any) -> None:
        # napari hands out proxies of layers, so they are compared by equality throughout.
        if event.value in self._layers:
            self._layers.remove(event.value)
            if not self._layers:
                self.close()

    def _attach(self, layer: Any) -> None:
        if layer.metadata.get("histosam_display") is not self or self._stop.is_set():
            return
        if layer not in self._layers:
            self._layers.append(layer)
        if self._builder is None and self._dispatcher is not None and self._sketched():
            self._builder = threading.Thread(target=self._build, name="histosam-build", daemon=True)
            self._builder.start()

    def _refresh(self) -> None:
        for layer in self._layers:
            self._refresher.refresh(layer)

    def _sketched(self) -> list[tuple[int, int, int]]:
        """Return the tiles of which only a sketch is known: those of huge slides without levels."""
        return [
            (level, row, col)
            for level, (rows, cols) in enumerate(map(self._tiles.grid, range(self._levels)))
            if not self._tiles.is_exact(level, 0, 0)
            for row in range(rows)
            for col in range(cols)
        ]

    @property
    def _levels(self) -> int:
        return len(self._tiles.shapes)

    def _build(self) -> None:
        """Make the sketched tiles exact, in one pass over the slide."""
        sketched = self._sketched()
        try:
            done = self._tiles.build(stop=self._wait_for_user)
        except HistosamError as error:
            _log.info("the overview of %s stays a sketch: %s", self.slide.name, error)
            return
        if done and self._dispatcher is not None and not self._stop.is_set():
            self._dispatcher.call(lambda: self.pyramid.outdate(sketched))

    def _wait_for_user(self) -> bool:
        """Let what is on screen go first; return whether to stop."""
        while not self.pyramid.idle and not self._stop.wait(PAUSE_SECONDS):
            pass
        return self._stop.is_set()

    def _let_go(self) -> None:
        self.pyramid.close()
        if self._builder is not None:
            self._builder.join()
        self.slide.close()
