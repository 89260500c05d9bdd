"""A real window for scripted work and its pictures: the demo and the docs use it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import HistosamError
from napari_histosam.viewer import launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.viewer.controller import Controller

PATIENCE_SECONDS = 60.0
# Time that Qt and the driver get to draw what has changed.
DRAW_SECONDS = 0.4


class Stage:
    """A window with the dock on a slide, driven by a script.

    Parameters
    ----------
    slide : Path
    size : tuple of int
        Of the window, in screen px.

    Raises
    ------
    HistosamError
        If the slide does not open or the window does not answer in time.
    """

    def __init__(self, slide: Path, size: tuple[int, int] = (1500, 950)) -> None:
        self.viewer, self.dock = launch.open_with_dock(slide)
        self.viewer.window.resize(*size)
        if self.dock.workbench.controller is None:
            self.close()
            raise HistosamError(f"The slide {slide.name} did not open in the window.")
        self.until(lambda: bool(self.controller.session.device))

    @property
    def controller(self) -> Controller:
        """What ties the window to its session."""
        controller: Controller = self.dock.workbench.controller
        return controller

    def until(self, done: Callable[[], bool]) -> None:
        """Let the window live until ``done()``."""
        from napari.qt import get_qapp

        end = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > end:
                raise HistosamError("The window did not answer in time; try --no-window.")
            get_qapp().processEvents()
            time.sleep(0.005)

    def rest(self, seconds: float) -> None:
        """Let the window live for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def settle(self) -> None:
        """Wait until every prompt is answered."""
        self.until(lambda: self.controller.session.settled)

    def picture(self, path: Path) -> Path:
        """Save a picture of the window once all tiles are there; return its path."""
        pyramids: list[Any] = [self.controller.objects.pyramid]
        pyramids.append(self.controller.layer.metadata.get("histosam_pyramid"))
        self.rest(DRAW_SECONDS)
        self.until(lambda: all(p is None or p.idle for p in pyramids))
        self.rest(DRAW_SECONDS)
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        return path

    def close(self) -> None:
        """Close the window."""
        self.dock.end()
        self.viewer.close()
