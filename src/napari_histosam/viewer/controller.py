"""Ties one session to one viewer: what the user does reaches the session, its news the layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_histosam.session import editing
from napari_histosam.store import ObjectRaster
from napari_histosam.viewer import tools
from napari_histosam.viewer.attempt import attempt
from napari_histosam.viewer.keys import KeyBindings
from napari_histosam.viewer.overlays import ObjectOverlay, PreviewOverlay, PromptOverlay
from napari_histosam.viewer.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.session import Session
    from napari_histosam.session.editing import Edit
    from napari_histosam.viewer.frame import SlideFrame

# Marks and the preview are drawn anew when the zoom has changed by this factor.
REDRAW = 1.4


class Controller:
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
    Signals: ``tool_changed(Tool)``, ``said(str)`` (a sentence for the user).
    """

    tool_changed = Signal(object)
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
        self.frame = frame
        self.tool = Tool.CLICK
        self.panning = False
        self.frozen = False
        self.brush_px = 12.0
        self._closed = False
        # The objects are drawn on the slide's own grid of levels, so that the two stay in step.
        grid = session.slide.pyramid()
        scales = [(session.slide.width / w, session.slide.height / h) for h, w in grid.shapes]
        raster = ObjectRaster(session.store, list(grid.shapes), scales, tile=grid.tile)
        self.objects = ObjectOverlay(viewer, frame, raster, dispatcher)
        self.preview = PreviewOverlay(viewer, frame)
        self.prompts = PromptOverlay(viewer, frame)
        self.objects.layer()
        self._selected: tuple[str, ...] = ()
        self._drawn_unit = self.unit
        session.preview_changed.connect(self._on_preview)
        session.prompts_changed.connect(self._on_prompts)
        session.store.changed.connect(self.objects.changed)
        session.objects.selection_changed.connect(self._on_selection)
        session.failed.connect(self.say)
        session.said.connect(self.say)
        self._drag: Callable[..., Iterator[None]] = lambda _viewer, event: tools.drag(self, event)
        viewer.mouse_drag_callbacks.append(self._drag)
        viewer.scene.camera.events.mouse_pan.connect(self._keep_pan)
        viewer.scene.camera.events.zoom.connect(self._on_zoom)
        viewer.layers.selection.events.active.connect(self._on_active)
        self.keys = KeyBindings(self)
        viewer.layers.selection.active = layer
        self.set_tool(Tool.CLICK)
        self._on_zoom()

    # -- what the user does ------------------------------------------------------------------

    def set_tool(self, tool: Tool) -> None:
        """Choose what the left button does."""
        self.tool = tool
        self._keep_pan()
        if self.layer in self.viewer.layers:
            self.viewer.layers.selection.active = self.layer
        self.tool_changed.emit(tool)

    def accept(self) -> None:
        """Keep what is previewed."""
        self._try(self.session.accept)

    def reject(self) -> None:
        """Forget prompts and preview or, without any, the selection."""
        if len(self.session.prompts) or self.session.preview is not None:
            self.session.reject()
        else:
            self.session.objects.select([])

    def next_candidate(self) -> None:
        """Show the model's next mask."""
        self.session.next_candidate()

    def next_object(self) -> None:
        """Prompt a further object before accepting."""
        self.session.next_object()
        self.say("The next clicks are for another object; accept keeps all of them.")

    def undo(self) -> None:
        """Take the last prompt or edit back."""
        done: list[str | None] = []
        self._try(lambda: done.append(self.session.undo()))
        if done:
            self.say(f"Undone: {done[0]}." if done[0] else "Nothing to undo.")

    def redo(self) -> None:
        """Do again what was taken back."""
        done: list[str | None] = []
        self._try(lambda: done.append(self.session.redo()))
        if done:
            self.say(f"Redone: {done[0]}." if done[0] else "Nothing to redo.")

    def delete(self) -> None:
        """Delete the selected objects."""
        self._try(self.session.objects.delete)

    def choose_class(self, index: int) -> None:
        """Choose the class at a place in the list (0 the first)."""
        classes = self.session.store.classes()
        if index < len(classes):
            self._try(lambda: self.session.set_class(classes[index].name))

    def edit(self, edit: Edit, label: str) -> None:
        """Correct the preview or the selected objects."""
        self._try(lambda: self.session.edit(edit, label))

    def fill_holes(self) -> None:
        """Close the holes of the preview or of the selected objects."""
        self.edit(editing.fill_holes(), "Fill holes")

    def smooth(self) -> None:
        """Round off details of about three screen px."""
        self.edit(editing.smooth(3 * self.unit), "Smooth")

    def merge(self) -> None:
        """Unite the selected objects."""
        self._try(self.session.objects.merge)

    def refine(self) -> None:
        """Hand the selected object to the model as a mask prompt."""
        chosen = self.session.objects.selection
        if len(chosen) == 1:
            self._try(lambda: self.session.refine(chosen[0]))
        else:
            self.say("Select one object, then refine it.")

    def fly_to(self, object_id: str) -> None:
        """Move the view to an object and select it."""
        if object_id not in self.session.store:
            return
        target = self.session.store.get(object_id)
        self.session.objects.select([object_id])
        left, top, right, bottom = target.geometry.bounds
        self.look_at(left, top, right, bottom)

    def look_at(self, left: float, top: float, right: float, bottom: float) -> None:
        """Centre a level-0 box and zoom so that it takes about a third of the canvas."""
        y, x = self.frame.to_world((left + right) / 2, (top + bottom) / 2)
        camera = self.viewer.scene.camera
        camera.center = (0.0, y, x)
        sx, sy = self.frame.step
        height, width = self.viewer.canvas.size
        wanted = min(width / max((right - left) * sx, 1e-6), height / max((bottom - top) * sy, 1e-6))
        # Never closer than four screen px per level-0 px: beyond it there is nothing to see.
        camera.zoom = min(wanted / 3, 4 / min(sx, sy))

    # -- where things are --------------------------------------------------------------------

    @property
    def unit(self) -> float:
        """Level-0 px per screen px."""
        sx, sy = self.frame.step
        return 1.0 / (self.viewer.scene.camera.zoom * math.sqrt(sx * sy))

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
    def view(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is on screen, level-0 px."""
        _, cy, cx = self.viewer.scene.camera.center
        height, width = self.viewer.canvas.size
        zoom = self.viewer.scene.camera.zoom
        left, top = self.frame.to_level0((cy - height / zoom / 2, cx - width / zoom / 2))
        right, bottom = self.frame.to_level0((cy + height / zoom / 2, cx + width / zoom / 2))
        return left, top, right, bottom

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def stroke(self, kind: str, path: NDArray[np.float64], colour: str, width: float) -> None:
        """Show what is being drawn."""
        self.prompts.drawing(kind, path, colour, width)

    def stroke_done(self) -> None:
        """Take the shown stroke away."""
        self.prompts.show(self.session.prompts.all(), self.unit)

    def set_frame(self, frame: SlideFrame) -> None:
        """Take over another µm scale for all layers."""
        self.frame = frame
        self.objects.frame = self.preview.frame = self.prompts.frame = frame
        ours = [self.layer, *self.prompts.layers]
        ours += [o.layer() for o in (self.objects, self.preview) if o.present]
        for layer in ours:
            for name, value in frame.layer().items():
                setattr(layer, name, value)
        self._on_preview(self.session.preview)
        self._on_prompts()
        self._on_zoom()

    def close(self) -> None:
        """Let go of viewer and session; the slide's layer stays."""
        if self._closed:
            return
        self._closed = True
        self.keys.unbind()
        if self._drag in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._drag)
        camera = self.viewer.scene.camera
        camera.events.mouse_pan.disconnect(self._keep_pan)
        camera.events.zoom.disconnect(self._on_zoom)
        self.viewer.layers.selection.events.active.disconnect(self._on_active)
        camera.mouse_pan = True
        self.session.preview_changed.disconnect(self._on_preview)
        self.session.prompts_changed.disconnect(self._on_prompts)
        self.session.store.changed.disconnect(self.objects.changed)
        self.session.objects.selection_changed.disconnect(self._on_selection)
        self.session.failed.disconnect(self.say)
        self.session.said.disconnect(self.say)
        self.prompts.remove()
        self.preview.remove()
        self.objects.remove()

    # -- news --------------------------------------------------------------------------------

    def _on_preview(self, preview: Any) -> None:
        active = self.session.active
        self._drawn_unit = self.unit
        self.preview.show(preview, active[0] if active else None, self.unit)
        if self.preview.present:
            self.keys.bind(self.preview.layer())

    def _on_prompts(self) -> None:
        self.prompts.show(self.session.prompts.all(), self.unit)

    def _on_selection(self, ids: tuple[str, ...]) -> None:
        changed = set(ids) ^ set(self._selected)
        self._selected = ids
        self.objects.raster.selected = set(ids)
        self.objects.redraw(self.objects.raster.bounds_of(changed))

    def _on_zoom(self, _event: Any = None) -> None:
        self.session.view_scale = self.unit
        drawn = self._drawn_unit / self.unit
        if not 1 / REDRAW <= drawn <= REDRAW and len(self.session.prompts):
            self._on_preview(self.session.preview)
            self._on_prompts()

    def _on_active(self, event: Any) -> None:
        if event.value is not None and event.value.metadata.get("histosam_overlay"):
            self.keys.bind(event.value)

    def _keep_pan(self, _event: Any = None) -> None:
        """Hold napari's own panning off while a tool of ours has the left button."""
        wanted = self.tool is Tool.PAN
        camera = self.viewer.scene.camera
        if camera.mouse_pan != wanted:
            camera.mouse_pan = wanted

    def _try(self, do: Callable[[], object]) -> None:
        attempt(do, self.say)
