"""Opens napari with the dock and, if one is given, a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer

PLUGIN = "napari-histosam"
WIDGET = "HistoSAM"


def open_with_dock(slide: Path | None = None) -> tuple[Viewer, Any]:
    """Return a napari viewer and the HistoSAM dock in it; the slide is open."""
    import napari

    viewer = napari.Viewer(title="HistoSAM")
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    if slide is not None:
        dock.workbench.open(slide)
    return viewer, dock


def run() -> None:
    """Run napari until its window is closed."""
    import napari

    napari.run()
