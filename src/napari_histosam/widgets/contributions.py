"""The reader and the sample slide that napari finds in the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def get_reader(path: str | list[str]) -> Callable[..., Any] | None:
    """Return a reader for a slide (npe2 reader hook)."""
    from napari_histosam.viewer.reader import reader_for

    viewer, dispatcher = _window()
    return reader_for(path, dispatcher, viewer)


def open_sample() -> list[Any]:
    """Return the sample slide as layer data (npe2 sample hook)."""
    from napari_histosam.home import sample_slide
    from napari_histosam.slide import open_slide
    from napari_histosam.viewer.reader import layer_data

    viewer, dispatcher = _window()
    return [layer_data(open_slide(sample_slide()), dispatcher, viewer)]


def _window() -> tuple[Any, Any]:
    """Return the present viewer and a dispatcher to its thread; both None without a window."""
    import napari
    from napari.utils.notifications import show_warning
    from qtpy.QtWidgets import QApplication

    from napari_histosam.widgets.main_thread import MainThread

    viewer = napari.current_viewer()
    if viewer is None or QApplication.instance() is None:
        return None, None
    return viewer, MainThread(show_warning)
