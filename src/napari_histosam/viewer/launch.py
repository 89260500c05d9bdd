"""Opens napari with the dock and, if one is given, a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer

PLUGIN = "napari-histosam"
WIDGET = "HistoSAM"


def open_window(slide: Path | None = None, *, show: bool = True) -> Viewer:
    """Return a napari viewer with the HistoSAM dock; the slide is open in it."""
    import napari

    viewer = napari.Viewer(title="HistoSAM", show=show)
    viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    if slide is not None:
        viewer.open(str(slide), plugin=PLUGIN)
    return viewer


def run() -> None:
    """Run napari until its window is closed."""
    import napari

    napari.run()
