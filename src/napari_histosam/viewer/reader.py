"""Turns slides into napari layer data whose display keeps getting better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.slide import open_slide
from napari_histosam.viewer.display import SlideDisplay
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.layers import slide_layer_kwargs

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.slide import Slide

    LayerData = tuple[Any, dict[str, Any], str]


def reader_for(
    path: str | list[str], dispatcher: Dispatcher | None, viewer: ViewerModel | None
) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return a napari reader for a slide; None for stacks, which are not ours.

    Parameters
    ----------
    path : str or list of str
    dispatcher : Dispatcher, optional
        Given, tiles load in the background; without one, reads wait and are exact.
    viewer : ViewerModel, optional
        The viewer that will get the layer; needed to refresh it.
    """
    if isinstance(path, list) and len(path) != 1:
        return None

    def read(paths: str | list[str]) -> list[LayerData]:
        name = paths[0] if isinstance(paths, list) else paths
        slide = open_slide(name)
        return [layer_data(slide, dispatcher if viewer is not None else None, viewer)]

    return read


def layer_data(
    slide: Slide, dispatcher: Dispatcher | None, viewer: ViewerModel | None
) -> LayerData:
    """Return a slide as napari layer data; in ``viewer`` its display is kept up to date.

    The slide is closed when its layer is removed.
    """
    display = SlideDisplay(slide, dispatcher)
    if viewer is not None:
        display.follow(viewer)
    frame = SlideFrame.of_slide(slide.mpp)
    return display.pyramid.layer_data, slide_layer_kwargs(display, frame), "image"


def slide_of(layer: Layer) -> Slide:
    """Return the slide that a layer of ours shows.

    Raises
    ------
    InputError
        If the layer was not made by this reader.
    """
    slide: Slide | None = layer.metadata.get("histosam_slide")
    if slide is None:
        raise InputError(f"The layer {layer.name} is not a slide; open one with Open slide….")
    return slide
