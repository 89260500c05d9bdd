"""Ties one session to one viewer: what the user does reaches the session, its news the layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.store import ObjectRaster
from napari_histosam.viewer import tools
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.commands import Commands
from napari_histosam.viewer.frame import SlideFrame
from napari_histosam.viewer.keys import KeyBindings
from napari_histosam.viewer.overlays import (
    ComparisonOverlay,
    ObjectOverlay,
    PreviewOverlay,
    PromptOverlay,
)
from napari_histosam.viewer.patches import PatchWork
from napari_histosam.viewer.review_walk import ReviewWalk
from napari_histosam.viewer.tools import Tool
from napari_histosam.viewer.viewport import Viewport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window
    from napari_histosam.jobs import Dispatcher
    from napari_histosam.records import Prompt
    from napari_histosam.session import Session
    from napari_histosam.viewer.overlays import Overlay

# Marks and the preview are drawn anew when the zoom has changed by this factor.
REDRAW = 1.4
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")


class Controller(Commands):
    """One session in one viewer.

    Parameters
    ----------
    viewer : ViewerModel
    session : Session
    layer : Image
        The slide's layer.
    frame : SlideFrame
    dispatcher : Dispatcher, optional
        Brings background results to the window's thread.

    Notes
    -----
    Signals: ``tool_changed(Tool)``, ``said(str)`` (a sentence for the user),
    ``region_changed(shapely geometry or None)``, ``frame_changed(SlideFrame)``.
    """

    tool_changed = Signal(object)
    region_changed = Signal(object)
    frame_changed = Signal(object)
    said = Signal(str)

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        layer: Image,
        frame: SlideFrame,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.viewer = viewer
        self.session = session
        self.layer = layer
        self.viewport = Viewport(viewer, frame)
        self.tool = Tool.CLICK
        self._tool_before = Tool.CLICK
        self.region: BaseGeometry | None = None
        self.panning = False
        self.brush_px = 12.0
        self._dispatcher = dispatcher
        self._closed = False
        self._moving = False
        # The objects are drawn on the slide's own grid of levels, so that the two stay in step.
        grid = session.slide.pyramid()
        raster = ObjectRaster(session.store, grid.shapes, grid.scales, tile=grid.tile)
        self.objects = ObjectOverlay(viewer, frame, raster, dispatcher)
        self.preview = PreviewOverlay(viewer, frame)
        self.prompts = PromptOverlay(viewer, frame)
        self.comparison = ComparisonOverlay(viewer, frame)
        self.objects.layer()
        self.review = ReviewWalk(self)
        self.patches = PatchWork(self)
        self._selected: tuple[str, ...] = ()
        self._framed: tuple[Window, ...] = ()
        self._boxed: tuple[Prompt, ...] = ()
        self._drawn_unit = self.unit
        session.preview_changed.connect(self._on_preview)
        session.prompts_changed.connect(self._on_prompts)
        session.comparison_changed.connect(self._on_comparison)
        session.store.changed.connect(self.objects.changed)
        session.objects.selection_changed.connect(self._on_selection)
        session.failed.connect(self.say)
        session.said.connect(self.say)
        self._drag: Callable[..., Iterator[None]] = lambda _viewer, event: tools.drag(self, event)
        viewer.mouse_drag_callbacks.append(self._drag)
        viewer.scene.camera.events.mouse_pan.connect(self._keep_pan)
        viewer.scene.camera.events.zoom.connect(self._on_zoom)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.layers.events.removed.connect(self._on_removed)
        for name in PLACE:
            getattr(layer.events, name).connect(self._on_moved)
        self.keys = KeyBindings(self)
        viewer.layers.selection.active = layer
        self.set_tool(Tool.CLICK)
        self._on_zoom()

    def set_tool(self, tool: Tool) -> None:
        """Choose what the left button does."""
        if tool is Tool.REGION and self.tool is not Tool.REGION:
            self._tool_before = self.tool
        self.tool = tool
        if self.layer in self.viewer.layers:
            self.viewer.layers.selection.active = self.layer
        self._keep_pan()
        self.patches.redraw_lines()
        self.tool_changed.emit(tool)

    def set_region(self, region: BaseGeometry | None) -> None:
        """Take what was drawn as the region of automatic runs; None forgets it."""
        self.region = region
        self.prompts.region = region
        self._on_prompts()
        self.region_changed.emit(region)
        if self.tool is Tool.REGION:
            self.set_tool(self._tool_before)

    @told
    def fly_to(self, object_id: str) -> None:
        """Move the view to an object and select it."""
        if object_id in self.session.store:
            self.session.objects.select([object_id])
            self.look_at(*self.session.store.get(object_id).geometry.bounds)

    def outline(self, model: str, *, shown: bool) -> None:
        """Draw a model's outline side by side with the others, or leave it away."""
        (self.comparison.hidden.discard if shown else self.comparison.hidden.add)(model)
        self._on_comparison(self.session.comparison)

    # -- where things are --------------------------------------------------------------------

    @property
    def frame(self) -> SlideFrame:
        """Where the slide lies in napari's world."""
        return self.viewport.frame

    @property
    def unit(self) -> float:
        """Level-0 px per screen px."""
        return self.viewport.unit

    @property
    def view(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is on screen, level-0 px."""
        return self.viewport.box

    def look_at(self, left: float, top: float, right: float, bottom: float) -> None:
        """Centre a level-0 box and zoom so that it takes about a third of the canvas."""
        self.viewport.look_at(left, top, right, bottom)

    @property
    def brush_radius(self) -> float:
        """Brush radius in level-0 px: constant on the screen."""
        return self.brush_px * self.unit

    def inside(self, x: float, y: float) -> bool:
        """Whether a level-0 point lies on the slide."""
        return 0 <= x <= self.session.slide.width and 0 <= y <= self.session.slide.height

    def clip(self, at: NDArray[np.float64]) -> tuple[float, float]:
        """Move a level-0 point onto the slide."""
        x = min(max(float(at[0]), 0.0), float(self.session.slide.width))
        y = min(max(float(at[1]), 0.0), float(self.session.slide.height))
        return x, y

    @property
    def elsewhere(self) -> bool:
        """Whether the user is busy with a layer of their own: paints labels, moves points."""
        active = self.viewer.layers.selection.active
        if active is None or active == self.layer or "histosam_overlay" in active.metadata:
            return False
        return str(active.mode) != "pan_zoom"

    @property
    def _overlays(self) -> tuple[Overlay | PromptOverlay, ...]:
        return self.objects, self.preview, self.comparison, self.prompts, *self.patches.overlays

    @property
    def closed(self) -> bool:
        """Whether this has let go of viewer and session."""
        return self._closed

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def stroke(self, kind: str, path: NDArray[np.float64], colour: str, width: float) -> None:
        """Show what is being drawn."""
        self.prompts.drawing(kind, path, colour, width)

    def stroke_done(self) -> None:
        """Take the shown stroke away."""
        self._on_prompts()
        if self.tool is Tool.PATCH:
            self.patches.stop_pending()

    def set_frame(self, frame: SlideFrame) -> None:
        """Put the slide's layer and all of ours elsewhere, or to another µm scale."""
        self._moving = True
        try:
            self.layer.affine = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
            for name, value in frame.layer().items():
                setattr(self.layer, name, value)
        finally:
            self._moving = False
        self._follow(frame)

    def close(self) -> None:
        """Let go of viewer and session; the slide's layer stays."""
        if self._closed:
            return
        self._closed = True
        self.keys.unbind()
        self.review.close()
        self.patches.close()
        if self._drag in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._drag)
        camera = self.viewer.scene.camera
        camera.events.mouse_pan.disconnect(self._keep_pan)
        camera.events.zoom.disconnect(self._on_zoom)
        self.viewer.layers.selection.events.active.disconnect(self._on_active)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        for name in PLACE:
            getattr(self.layer.events, name).disconnect(self._on_moved)
        camera.mouse_pan = True
        self.session.preview_changed.disconnect(self._on_preview)
        self.session.prompts_changed.disconnect(self._on_prompts)
        self.session.comparison_changed.disconnect(self._on_comparison)
        self.session.store.changed.disconnect(self.objects.changed)
        self.session.objects.selection_changed.disconnect(self._on_selection)
        self.session.failed.disconnect(self.say)
        self.session.said.disconnect(self.say)
        self.prompts.remove()
        self.comparison.remove()
        self.preview.remove()
        self.objects.remove()

    # -- news --------------------------------------------------------------------------------

    def _on_preview(self, preview: Any) -> None:
        active = self.session.active
        self._drawn_unit = self.unit
        self.preview.show(preview, active[0] if active else None, self.unit)
        if self.preview.present:
            self.keys.bind(self.preview.layer())
        seen, boxes = self._seen(), self._boxes()
        if (seen, boxes) != (self._framed, self._boxed):
            self._framed, self._boxed = seen, boxes
            self._on_prompts()

    def _seen(self) -> tuple[Window, ...]:
        """Return what the model saw, for models that look at more than one scale."""
        found = self.session.active
        if found is None:
            return ()
        _, shown = found
        scales = self.session.registry.get(shown.model).window_scales
        if len(scales) < 2:
            return ()
        sx, sy = shown.window.scale
        return tuple(replace(shown.window, scale=(sx * s, sy * s)) for s in scales)

    def _boxes(self) -> tuple[Prompt, ...]:
        """Return the boxes that a model was given in place of the user's prompts."""
        preview = self.session.preview
        shown = preview.objects.values() if preview is not None else ()
        return tuple(one.box for one in shown if one.box is not None)

    def _on_comparison(self, comparison: Any) -> None:
        self.comparison.show(comparison, self.unit)
        if self.comparison.present:
            self.keys.bind(self.comparison.layer())

    def _on_prompts(self) -> None:
        marks = (*self.session.prompts.all(), *self._boxed)
        self.prompts.show(marks, self.unit, self._framed)

    def _on_selection(self, ids: tuple[str, ...]) -> None:
        changed = set(ids) ^ set(self._selected)
        self._selected = ids
        self.objects.raster.selected = frozenset(ids)
        self.objects.redraw(self.objects.raster.bounds_of(changed))

    def _on_zoom(self, _event: Any = None) -> None:
        self.session.view_scale = self.unit
        drawn = self._drawn_unit / self.unit
        if not 1 / REDRAW <= drawn <= REDRAW and len(self.session.prompts):
            self._on_preview(self.session.preview)
            self._on_comparison(self.session.comparison)
            self._on_prompts()

    def _on_active(self, event: Any) -> None:
        if event.value is not None and "histosam_overlay" in event.value.metadata:
            self.keys.bind(event.value)
        self._keep_pan()

    def _on_removed(self, event: Any) -> None:
        self.keys.forget(event.value)
        ours = any(overlay.owns(event.value) for overlay in self._overlays)
        if ours and self._dispatcher is not None:
            # Not at once: the viewer may be in the middle of removing all of its layers.
            self._dispatcher.call(lambda: self._bring_back(event.value))

    def _bring_back(self, removed: Layer) -> None:
        """Add what a user removed of ours again: without it, work would go on unseen."""
        if self._closed or self.layer not in self.viewer.layers:
            return
        self.objects.layer()
        self.patches.redraw()
        self._on_preview(self.session.preview)
        self._on_comparison(self.session.comparison)
        self._on_prompts()
        self.say(f"The layer {removed.name} is part of HistoSAM and is back; its eye hides it.")

    def _on_moved(self, _event: Any) -> None:
        """Follow a user who moves or scales the slide's layer."""
        if self._moving:
            return
        try:
            frame = SlideFrame.of_layer(self.layer)
        except InputError as error:
            self.say(f"{error} Until then, tools work where the slide was.")
        else:
            self._follow(frame)

    def _follow(self, frame: SlideFrame) -> None:
        self.viewport.frame = frame
        for overlay in self._overlays:
            overlay.set_frame(frame)
        self.frame_changed.emit(frame)
        self.patches.follow()
        self._on_preview(self.session.preview)
        self._on_comparison(self.session.comparison)
        self._on_prompts()
        self._on_zoom()

    def _keep_pan(self, _event: Any = None) -> None:
        """Hold napari's own panning off while a tool of ours has the left button."""
        if self.elsewhere:
            return
        wanted = self.tool is Tool.PAN
        camera = self.viewer.scene.camera
        if camera.mouse_pan != wanted:
            camera.mouse_pan = wanted
