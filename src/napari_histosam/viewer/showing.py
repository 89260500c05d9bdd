"""Runs scripted work in a real window and takes its picture: the demo and the docs use it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError
from napari_histosam.viewer import launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.session import Session

    Settle = Callable[[], None]

PATIENCE_SECONDS = 60.0
SIZE = (1500, 950)


def show(
    slide: Path,
    work: Callable[[Session, Settle], None],
    picture: Path,
    *,
    focus: tuple[float, float, float, float],
    stay: bool = False,
) -> Path:
    """Open a window on a slide, do the work in it, and save a picture of the window.

    Parameters
    ----------
    slide : Path
    work : callable
        Gets the session and a function that waits until the session has answered.
    picture : Path
    focus : tuple of float
        Left, top, right, bottom to look at, level-0 px.
    stay : bool
        Leave the window open.

    Returns
    -------
    Path
        The picture's.
    """
    from napari.qt import get_qapp

    viewer, dock = launch.open_with_dock(slide)
    viewer.window.resize(*SIZE)
    try:
        controller = dock.workbench.controller
        if controller is None:
            raise HistosamError(f"The slide {slide.name} did not open in the window.")

        def until(done: Callable[[], bool]) -> None:
            end = time.monotonic() + PATIENCE_SECONDS
            while not done():
                if time.monotonic() > end:
                    raise HistosamError("The window did not answer in time; try --no-window.")
                get_qapp().processEvents()
                time.sleep(0.005)

        until(lambda: bool(controller.session.device))
        controller.look_at(*focus)
        work(controller.session, lambda: until(lambda: controller.session.settled))
        pyramid = controller.layer.metadata["histosam_pyramid"]
        rest = time.monotonic() + 0.4
        until(lambda: time.monotonic() > rest and pyramid.idle and controller.objects.pyramid.idle)
        rest = time.monotonic() + 0.4
        until(lambda: time.monotonic() > rest)
        viewer.screenshot(str(picture), canvas_only=False, flash=False)
    finally:
        if not stay:
            dock.end()
            viewer.close()
    return picture
