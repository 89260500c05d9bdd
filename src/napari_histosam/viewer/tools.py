"""What the mouse does in each tool: clicks, boxes, scribbles, brush strokes, cuts, selection."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.polygons import clean
from napari_histosam.session import editing
from napari_histosam.viewer.attempt import attempt
from napari_histosam.viewer.layers import ACCENT, NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from napari_histosam.viewer.controller import Controller

LEFT, MIDDLE = 1, 3
# A press that moves less than this many screen px is a click.
CLICK_PX = 4.0


class Tool(StrEnum):
    """What the left button does; *Region* and *Patches* belong to other tabs than *Annotate*."""

    CLICK = "Click"
    BOX = "Box"
    SCRIBBLE = "Scribble"
    BRUSH = "Brush"
    CUT = "Cut"
    PAN = "Pan"
    REGION = "Region"
    PATCH = "Patches"


def drag(controller: Controller, event: Any) -> Iterator[None]:
    """Follow one press of the mouse to its release: a napari drag callback.

    The left button does what the tool says, the middle one pans; the right one and Alt+drag stay
    napari's. Shift means the opposite: a negative click or scribble, erasing, adding to a
    selection.
    """
    if "Alt" in event.modifiers or controller.elsewhere:
        return
    if event.button == MIDDLE or (event.button == LEFT and controller.panning):
        yield from _pan(controller, event)
        return
    if event.button != LEFT:
        return
    if controller.viewer.dims.ndisplay != 2:
        controller.say("Switch back to the 2D view to work on the slide.")
        return
    shift = "Shift" in event.modifiers
    start = np.asarray(event.pos, float)
    path = [controller.viewport.to_level0(event.position)]
    moved = False
    event.handled = controller.tool is not Tool.PAN
    yield
    while event.type == "mouse_move":
        moved = moved or float(np.abs(np.asarray(event.pos, float) - start).max()) >= CLICK_PX
        if moved:
            path.append(controller.viewport.to_level0(event.position))
            _show(controller, np.array(path), shift)
        event.handled = controller.tool is not Tool.PAN
        yield
        if controller.closed:  # the slide was removed, or the dock closed, with the button held
            return
    controller.stroke_done()
    # Of moves in quick succession some are swallowed, so a short quick drag may show none.
    moved = moved or float(np.abs(np.asarray(event.pos, float) - start).max()) >= CLICK_PX
    if moved:
        path.append(controller.viewport.to_level0(event.position))
        attempt(lambda: _dragged(controller, np.array(path), shift), controller.say)
    else:
        attempt(lambda: _clicked(controller, path[0], shift), controller.say)


def _clicked(controller: Controller, at: tuple[float, float], shift: bool) -> None:
    session = controller.session
    if controller.tool is Tool.PAN:
        session.objects.select_at(*at, add=shift)
    elif not controller.inside(*at):
        controller.say("That is outside the slide; click on the tissue.")
    elif controller.tool is Tool.CLICK:
        session.add_point(*at, positive=not shift)
    elif controller.tool is Tool.SCRIBBLE:
        session.add_scribble([at], positive=not shift)
    elif controller.tool is Tool.BRUSH:
        _paint(controller, np.array([at]), shift)
    elif controller.tool is Tool.PATCH:
        controller.patches.paint(np.array([at]), erase=shift)
    elif controller.tool is Tool.BOX:
        controller.say("Drag from one corner of the object to the opposite one.")
    elif controller.tool is Tool.REGION:
        controller.say("Keep the button down and draw a line around the region.")
    else:
        controller.say("Drag a line right across the selected object to cut it.")


def _dragged(controller: Controller, path: NDArray[np.float64], shift: bool) -> None:
    session = controller.session
    if controller.tool in (Tool.CLICK, Tool.BOX):
        (x0, y0), (x1, y1) = controller.clip(path[0]), controller.clip(path[-1])
        session.add_box(x0, y0, x1, y1)
    elif controller.tool is Tool.SCRIBBLE:
        session.add_scribble([(float(x), float(y)) for x, y in path], positive=not shift)
    elif controller.tool is Tool.BRUSH:
        _paint(controller, path, shift)
    elif controller.tool is Tool.CUT:
        session.objects.split(path)
    elif controller.tool is Tool.REGION:
        controller.set_region(enclosed(path))
    elif controller.tool is Tool.PATCH:
        controller.patches.paint(path, erase=shift)


def enclosed(path: NDArray[np.float64]) -> Polygon | MultiPolygon:
    """Return what a line drawn by hand encloses, level-0 px.

    Raises
    ------
    InputError
        If it encloses nothing.
    """
    shape = None
    if len(path) >= 3:
        shape = clean(shapely.Polygon(path))
    if shape is None:
        raise InputError("The line encloses nothing: draw it around the region, all the way round.")
    return shape


def _paint(controller: Controller, path: NDArray[np.float64], erase: bool) -> None:
    edit = editing.brush(path, controller.brush_radius, erase=erase)
    controller.session.edit(edit, "Erase" if erase else "Brush")


def _show(controller: Controller, path: NDArray[np.float64], shift: bool) -> None:
    """Show the stroke while it is drawn."""
    unit = controller.unit
    tint = NEGATIVE if shift else POSITIVE
    if controller.tool in (Tool.CLICK, Tool.BOX):
        (x0, y0), (x1, y1) = path[0], path[-1]
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        controller.stroke("rectangle", corners, ACCENT, 2 * unit)
    elif controller.tool is Tool.SCRIBBLE:
        controller.stroke("path", path, tint, 4 * unit)
    elif controller.tool is Tool.BRUSH:
        controller.stroke("path", path, tint, 2 * controller.brush_radius)
    elif controller.tool is Tool.CUT:
        controller.stroke("path", path, "#facc15", 2 * unit)
    elif controller.tool is Tool.REGION:
        controller.stroke("path", path, ACCENT, 3 * unit)
    elif controller.tool is Tool.PATCH:
        controller.patches.pend(path, erase=shift)


def _pan(controller: Controller, event: Any) -> Iterator[None]:
    camera = controller.viewer.scene.camera
    last = np.asarray(event.pos, float)
    event.handled = True
    yield
    while event.type == "mouse_move":
        here = np.asarray(event.pos, float)
        dx, dy = (here - last) / camera.zoom
        last = here
        z, y, x = camera.center
        camera.center = (z, y - dy, x - dx)
        event.handled = True
        yield
