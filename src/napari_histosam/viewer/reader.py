"""Turns slides into napari layer data whose display keeps getting better."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.slide import open_slide
from napari_histosam.viewer.colour import ColouredTiles
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.layers import slide_layer_kwargs
from napari_histosam.viewer.pyramid import OptimisticPyramid

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.slide import Slide

    LayerData = tuple[Any, dict[str, Any], str]

DISPLAY_BYTES = 256 << 20


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
    """Return a slide as napari layer data; in ``viewer`` its display is kept up to date."""
    pyramid = OptimisticPyramid(
        ColouredTiles(slide.pyramid()),
        dispatcher,
        channels=3,
        fill=slide.background,
        max_bytes=DISPLAY_BYTES,
    )
    if viewer is not None:
        _refresh_in(viewer, pyramid)
    frame = SlideFrame.of_slide(slide.mpp)
    return pyramid.layer_data, slide_layer_kwargs(slide, pyramid, frame), "image"


def slide_of(layer: Layer) -> Slide:
    """Return the slide that a layer of ours shows.

    Raises
    ------
    InputError
        If the layer was not made by this reader.
    """
    slide = layer.metadata.get("histosam_slide")
    if slide is None:
        raise InputError(f"The layer {layer.name} is not a slide; open one with Open slide….")
    return slide  # type: ignore[no-any-return]


def _refresh_in(viewer: ViewerModel, pyramid: OptimisticPyramid) -> None:
    """Refresh the pyramid's layer while it is in the viewer; stop loading when it leaves."""
    seen = weakref.WeakSet[Any]()

    def refresh() -> None:
        for layer in seen:
            if layer in viewer.layers:
                layer.refresh(extent=False, highlight=False)

    def inserted(event: Any) -> None:
        if event.value.metadata.get("histosam_pyramid") is pyramid:
            seen.add(event.value)

    def removed(event: Any) -> None:
        if event.value in seen:
            viewer.layers.events.inserted.disconnect(inserted)
            viewer.layers.events.removed.disconnect(removed)
            pyramid.improved.disconnect(refresh)
            pyramid.close()

    pyramid.improved.connect(refresh)
    viewer.layers.events.inserted.connect(inserted)
    viewer.layers.events.removed.connect(removed)
