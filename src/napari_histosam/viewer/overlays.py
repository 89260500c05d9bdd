"""Shows a session's objects, preview and prompts as layers, and mends what a user removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.geometry.draw import draw_geometry, outline_sides
from napari_histosam.geometry.window import Window
from napari_histosam.viewer import layers as make
from napari_histosam.viewer.pyramid import OptimisticPyramid
from napari_histosam.viewer.refresh import Refresher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Points, Shapes, Vectors
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.records import Prompt
    from napari_histosam.session import Preview
    from napari_histosam.session.comparison import Comparison
    from napari_histosam.store import Change, ObjectRaster
    from napari_histosam.viewer.frame import SlideFrame

# The preview is drawn on a canvas of at most this side; beyond it, coarser.
CANVAS = 1536


class Overlay:
    """One layer of ours that comes back if the user removes or renames it.

    Parameters
    ----------
    viewer : ViewerModel
    frame : SlideFrame
        Where the slide lies in napari's world.
    add : callable
        Makes the layer in a frame and adds it to the viewer.
    """

    def __init__(
        self, viewer: ViewerModel, frame: SlideFrame, add: Callable[[SlideFrame], Layer]
    ) -> None:
        self._viewer = viewer
        self._frame = frame
        self._add = add
        self._layer: Any = None

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer now."""
        return self._layer is not None and self._layer in self._viewer.layers

    def layer(self) -> Any:
        """Return the layer, added anew if need be, without taking the user's selection."""
        if not self.present:
            active = self._viewer.layers.selection.active
            self._layer = self._add(self._frame)
            # These layers show; what napari's own tools would change in them is not the data.
            self._layer.events.mode.connect(self._stay_passive)
            if active is not None and active in self._viewer.layers:
                self._viewer.layers.selection.active = active
        return self._layer

    def owns(self, layer: Layer) -> bool:
        """Whether this is our layer, in the viewer or removed from it."""
        return bool(self._layer == layer)  # napari hands out proxies: equal, not identical

    def set_frame(self, frame: SlideFrame) -> None:
        """Follow the slide to another place or scale."""
        self._frame = frame
        if self.present:
            for name, value in frame.layer().items():
                setattr(self._layer, name, value)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        # Let go of first, so that nobody takes it for one that the user has removed.
        gone, self._layer = self._layer, None
        if gone is not None and gone in self._viewer.layers:
            self._viewer.layers.remove(gone)

    def _stay_passive(self, _event: Any) -> None:
        if str(self._layer.mode) != "pan_zoom":
            self._layer.mode = "pan_zoom"


class PreviewOverlay(Overlay):
    """The masks not yet accepted: the active one blue, others yellow."""

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        super().__init__(viewer, frame, lambda frame: make.add_preview(viewer, frame))

    def show(self, preview: Preview | None, active: str | None, unit: float) -> None:
        """Draw a preview, None clears it; ``unit`` is level-0 px per screen px.

        The outline is drawn at the screen's resolution, so that it is thin at any zoom.
        """
        shapes = [
            (name == active, found.geometry)
            for name, found in (preview.objects if preview else {}).items()
            if found.geometry is not None
        ]
        if not shapes:
            if self.present:
                self.layer().data = np.zeros((2, 2), np.uint8)
            return
        bounds = shapely.total_bounds(np.array([s[1] for s in shapes], dtype=object))
        window = _canvas(bounds, unit)
        canvas = np.zeros((window.size[1], window.size[0]), np.uint8)
        for is_active, geometry in shapes:
            fill = 1 if is_active else 3
            draw_geometry(canvas, geometry, window, fill=fill, line=fill + 1)
        layer: Labels = self.layer()
        place = self._frame.window_layer(window)
        layer.data = canvas
        layer.scale, layer.translate = place["scale"], place["translate"]
        layer.editable = False


class ComparisonOverlay(Overlay):
    """The outlines of several models' answers, each in a colour of its own.

    Attributes
    ----------
    hidden : set of str
        Models whose outlines are not drawn.
    """

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        super().__init__(viewer, frame, lambda frame: make.add_comparison(viewer, frame))
        self.hidden: set[str] = set()

    def show(self, comparison: Comparison | None, unit: float) -> None:
        """Draw a comparison, None clears it; ``unit`` is level-0 px per screen px.

        Every side of every outline is a line of its own: so all are exact at any zoom, also where
        one mask is as large as the slide.
        """
        shapes = [
            (make.ENTRANTS[number % len(make.ENTRANTS)], outline_sides(one.shown.geometry))
            for number, one in enumerate(comparison.entrants if comparison else ())
            if one.model not in self.hidden
            and one.shown is not None
            and one.shown.geometry is not None
        ]
        if not shapes and not self.present:
            return
        shapes.reverse()  # the first one on top
        layer: Vectors = self.layer()
        layer.data = np.concatenate([np.zeros((0, 2, 2)), *(sides for _, sides in shapes)])
        layer.edge_width = 3 * unit
        if len(layer.data):
            layer.edge_color = make.repeated([(colour, len(sides)) for colour, sides in shapes])


class PromptOverlay:
    """Clicks as points; boxes, scribbles, what the model saw and the stroke under way as shapes.

    Attributes
    ----------
    region : shapely geometry, optional
        Polygon(s) in level-0 px that are outlined as long as they are given.
    """

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        self._clicks = Overlay(viewer, frame, lambda frame: make.add_clicks(viewer, frame))
        self._strokes = Overlay(viewer, frame, lambda frame: make.add_strokes(viewer, frame))
        self._prompts: Sequence[Prompt] = ()
        self._seen: Sequence[Window] = ()
        self.region: BaseGeometry | None = None
        self._unit = 1.0

    def show(self, prompts: Sequence[Prompt], unit: float, seen: Sequence[Window] = ()) -> None:
        """Draw prompts.

        Parameters
        ----------
        prompts : sequence of Prompt
            The user's, and the boxes that a model was given in their place.
        unit : float
            Level-0 px per screen px; sets the marks' size.
        seen : sequence of Window
            What the model saw, drawn as frames.
        """
        self._prompts, self._seen, self._unit = prompts, seen, unit
        points = [p for p in prompts if p.geometry.geom_type == "Point"]
        if points or self._clicks.present:
            layer: Points = self._clicks.layer()
            at = np.array([[p.geometry.y - 0.5, p.geometry.x - 0.5] for p in points])
            layer.data = at.reshape(-1, 2)
            if points:
                layer.size = 11 * unit
                layer.face_color = [_colour(p) for p in points]
            layer.selected_data = set()
        self._draw([])

    def drawing(self, kind: str, path: NDArray[np.float64], colour: str, width: float) -> None:
        """Show what is being drawn: ``kind`` is ``"rectangle"`` or ``"path"``, level-0 px."""
        self._draw([(kind, path[:, ::-1] - 0.5, colour, width)])

    def remove(self) -> None:
        """Take both layers out."""
        self._clicks.remove()
        self._strokes.remove()

    def owns(self, layer: Layer) -> bool:
        """Whether this is one of our two layers."""
        return self._clicks.owns(layer) or self._strokes.owns(layer)

    def set_frame(self, frame: SlideFrame) -> None:
        """Follow the slide to another place or scale."""
        self._clicks.set_frame(frame)
        self._strokes.set_frame(frame)

    def _draw(self, extra: list[tuple[str, NDArray[np.float64], str, float]]) -> None:
        shapes = [
            ("rectangle", _corners(window.bounds), make.SEEN, 1.5 * self._unit)
            for window in self._seen
        ]
        if self.region is not None:
            for part in shapely.get_parts(self.region):
                ring = shapely.get_coordinates(part.exterior)[:-1, ::-1] - 0.5
                shapes.append(("polygon", ring, make.ACCENT, 3 * self._unit))
        for prompt in self._prompts:
            if prompt.role == "box":
                corners = _corners(prompt.geometry.bounds)
                # What a model was given in place of the user's prompts is drawn finer than theirs.
                width = (2 if prompt.by is None else 1) * self._unit
                shapes.append(("rectangle", corners, make.ACCENT, width))
            elif prompt.geometry.geom_type == "LineString":
                path = shapely.get_coordinates(prompt.geometry)[:, ::-1] - 0.5
                shapes.append(("path", path, _colour(prompt), 4 * self._unit))
        shapes += extra
        if not shapes and not self._strokes.present:
            return
        layer: Shapes = self._strokes.layer()
        if layer.nshapes:
            layer.data = []
        if shapes:
            layer.add(
                [s[1] for s in shapes],
                shape_type=[s[0] for s in shapes],
                edge_color=[s[2] for s in shapes],
                edge_width=[s[3] for s in shapes],
                face_color="transparent",
            )
        layer.selected_data = set()


class ObjectOverlay(Overlay):
    """The accepted objects, drawn tile by tile from the store."""

    def __init__(
        self,
        viewer: ViewerModel,
        frame: SlideFrame,
        raster: ObjectRaster,
        dispatcher: Dispatcher | None,
    ) -> None:
        super().__init__(
            viewer,
            frame,
            lambda frame: make.add_objects(viewer, self.pyramid, frame, self.raster.colours()),
        )
        self.raster = raster
        self.pyramid = OptimisticPyramid(
            raster, dispatcher, channels=0, fill=0, max_bytes=64 << 20, threads=1
        )
        self._refresher = Refresher(dispatcher, lambda layer: self.present and self.owns(layer))
        self.pyramid.improved.connect(self._refresh)

    def changed(self, change: Change) -> None:
        """Draw anew what an edit touched."""
        if change.classes_changed:
            self.recolour()
        if change.reset:
            self.pyramid.outdate_all()
        else:
            self.redraw(change.bounds)

    def redraw(self, areas: Sequence[tuple[float, float, float, float]]) -> None:
        """Draw anew the tiles that meet these level-0 boxes."""
        keys = self.raster.touched(areas)
        if keys:
            self.pyramid.outdate(keys)

    def recolour(self) -> None:
        """Take the classes' colours from the store again."""
        if self.present:
            self.layer().colormap = make.colormap(self.raster.colours())

    def remove(self) -> None:
        """Stop drawing and take the layer out."""
        self.pyramid.close()
        super().remove()

    def _refresh(self) -> None:
        if self.present:
            self._refresher.refresh(self.layer())


def _corners(bounds: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Return the corners (4, 2) of level-0 bounds, y first, where pixel centres are whole."""
    left, top, right, bottom = bounds
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]]) - 0.5


def _colour(prompt: Prompt) -> str:
    return make.NEGATIVE if prompt.role == "negative" else make.POSITIVE


def _canvas(bounds: NDArray[np.float64], unit: float) -> Window:
    """Return a window around ``bounds`` at ``unit`` level-0 px per px, or coarser if too large."""
    left, top, right, bottom = (float(v) for v in bounds)
    step = max(unit, max(right - left, bottom - top) / (CANVAS - 8))
    width = int(np.ceil((right - left) / step)) + 6
    height = int(np.ceil((bottom - top) / step)) + 6
    return Window((left + right) / 2, (top + bottom) / 2, (step, step), (width, height))
