"""Makes the layers of a session, each stamped with scale, units and axis labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.exchange.colours import class_colour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Points, Shapes, Vectors
    from napari.utils.colormaps import DirectLabelColormap
    from numpy.typing import NDArray

    from napari_histosam.viewer.display import SlideDisplay
    from napari_histosam.viewer.frame import SlideFrame
    from napari_histosam.viewer.pyramid import OptimisticPyramid

POSITIVE = "#22c55e"
NEGATIVE = "#ef4444"
ACCENT = "#38bdf8"
SEEN = "#e2e8f0"
# Of models side by side: told apart on pink tissue, also by the colour-blind (after Okabe and Ito).
ENTRANTS = ("#38bdf8", "#facc15", "#10b981", "#fb7a1e", "#1d4ed8", "#d946ef", "#111827", "#f8fafc")
# Of areas to be, which lie on the colour of their class: red, mostly.
AREA_LINES = ("#fde047", "#38bdf8", "#f8fafc", "#86efac", "#f0abfc", "#111827")


def slide_layer_kwargs(display: SlideDisplay, frame: SlideFrame) -> dict[str, Any]:
    """Return the keyword arguments of a slide's image layer (without the data)."""
    return {
        "name": display.slide.name,
        "rgb": True,
        "multiscale": len(display.pyramid.levels) > 1,
        "contrast_limits": (0, 255),
        "metadata": {
            "histosam_slide": display.slide,
            "histosam_pyramid": display.pyramid,
            "histosam_display": display,
        },
        **frame.layer(),
    }


def add_objects(
    viewer: ViewerModel, pyramid: OptimisticPyramid, frame: SlideFrame, colours: Mapping[int, Any]
) -> Labels:
    """Add the read-only layer that draws the accepted objects."""
    return viewer.add_labels(
        pyramid.layer_data,
        name="Objects",
        multiscale=len(pyramid.levels) > 1,
        opacity=1.0,
        colormap=colormap(colours),
        metadata={"histosam_overlay": "objects"},
        **frame.layer(),
    )


def add_preview(viewer: ViewerModel, frame: SlideFrame) -> Labels:
    """Add the small layer that draws the mask not yet accepted."""
    return viewer.add_labels(
        np.zeros((2, 2), np.uint8),
        name="Preview",
        opacity=1.0,
        colormap=colormap(
            {
                1: (0.22, 0.74, 0.97, 0.30),
                2: (0.22, 0.74, 0.97, 1.0),
                3: (0.99, 0.83, 0.20, 0.25),
                4: (0.99, 0.83, 0.20, 1.0),
            }
        ),
        metadata={"histosam_overlay": "preview"},
        **frame.layer(),
    )


def add_comparison(viewer: ViewerModel, frame: SlideFrame) -> Vectors:
    """Add the layer that outlines what several models answer, line by line."""
    return viewer.add_vectors(
        np.zeros((0, 2, 2)),
        ndim=2,
        name="Side by side",
        vector_style="line",
        opacity=1.0,
        blending="translucent_no_depth",
        metadata={"histosam_overlay": "comparison"},
        **frame.layer(),
    )


def add_probabilities(
    viewer: ViewerModel, pyramid: OptimisticPyramid, place: Mapping[str, Any], name: str
) -> Image:
    """Add the layer of a class's probabilities, 0 to 1: clear where none, its colour where sure."""
    from napari.utils import Colormap

    red, green, blue = (part / 255 for part in class_colour(name))
    ramp = [(red, green, blue, 0.0), (red, green, blue, 0.45), (red, green, blue, 1.0)]
    layer = viewer.add_image(
        pyramid.layer_data,
        name=f"Probability: {name}",
        multiscale=len(pyramid.levels) > 1,
        contrast_limits=(0, 1),
        colormap=Colormap(ramp, name=f"clear to {name}"),
        opacity=0.5,
        blending="translucent_no_depth",
        interpolation2d="linear",
        metadata={"histosam_overlay": "probability"},
        **place,
    )
    layer.contrast_limits_range = (0, 1)
    return layer


def add_would_be(
    viewer: ViewerModel,
    pyramid: OptimisticPyramid,
    place: Mapping[str, Any],
    classes: Sequence[str],
) -> Labels:
    """Add the layer that outlines what would become areas."""
    layer = viewer.add_labels(
        pyramid.layer_data,
        name="Areas to be",
        multiscale=len(pyramid.levels) > 1,
        opacity=1.0,
        colormap=colormap(
            {k + 1: _rgba(AREA_LINES[k % len(AREA_LINES)]) for k in range(len(classes))}
        ),
        metadata={"histosam_overlay": "areas"},
        **place,
    )
    layer.contour = 3
    return layer


def add_clicks(viewer: ViewerModel, frame: SlideFrame) -> Points:
    """Add the layer of the clicks in hand: green positive, red negative."""
    return viewer.add_points(
        np.zeros((0, 2)),
        ndim=2,
        name="Clicks",
        border_color="white",
        border_width=0.15,
        size=10,
        metadata={"histosam_overlay": "clicks"},
        **frame.layer(),
    )


def add_strokes(viewer: ViewerModel, frame: SlideFrame) -> Shapes:
    """Add the layer of boxes, scribbles and what is being drawn."""
    return viewer.add_shapes(
        None,
        ndim=2,
        name="Strokes",
        face_color="transparent",
        metadata={"histosam_overlay": "strokes"},
        **frame.layer(),
    )


def _rgba(colour: str) -> Any:
    from napari.utils.colormaps.standardize_color import transform_color

    return transform_color(colour)[0]


def colormap(colours: Mapping[int, Any]) -> DirectLabelColormap:
    """Return a colormap with exactly these RGBA colours (0 to 1); all else is transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    clear = np.zeros(4, np.float32)
    table: dict[int | None, Any] = {None: clear, 0: clear}
    table.update({k: np.asarray(v, np.float32) for k, v in colours.items()})
    return DirectLabelColormap(color_dict=table)


def repeated(colours: Sequence[tuple[str, int]]) -> NDArray[np.float32]:
    """Return colours (n, 4) for layers, each so many times."""
    from napari.utils.colormaps.standardize_color import transform_color

    names, counts = zip(*colours, strict=True)
    return np.repeat(transform_color(list(names)), counts, axis=0)
