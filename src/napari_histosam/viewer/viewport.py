"""Where a slide's pixels are on the screen: world, camera and level-0 px."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_histosam.viewer.frame import SlideFrame

# Beyond this many screen px per level-0 px there is nothing more to see.
CLOSEST = 4.0


class Viewport:
    """The part of a slide that a viewer shows.

    napari's world has the smallest unit of all layers of the viewer, so that it changes when, say,
    a layer in nm comes in; a `SlideFrame` is in its own layer's unit. This class lies between.

    Parameters
    ----------
    viewer : ViewerModel
    frame : SlideFrame
    """

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        self.viewer = viewer
        self.frame = frame

    @property
    def unit(self) -> float:
        """Level-0 px per screen px."""
        sx, sy = self.frame.step
        return 1.0 / (self.viewer.scene.camera.zoom * self._world * math.sqrt(sx * sy))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is on screen, level-0 px."""
        _, cy, cx = self.viewer.scene.camera.center
        height, width = self.viewer.canvas.size
        zoom = self.viewer.scene.camera.zoom
        left, top = self.to_level0((cy - height / zoom / 2, cx - width / zoom / 2))
        right, bottom = self.to_level0((cy + height / zoom / 2, cx + width / zoom / 2))
        return left, top, right, bottom

    def to_level0(self, world_yx: Sequence[float]) -> tuple[float, float]:
        """Map a world position (…, y, x) to level-0 px x, y."""
        return self.frame.to_level0([float(v) / self._world for v in world_yx[-2:]])

    def to_world(self, x: float, y: float) -> tuple[float, float]:
        """Map level-0 px to a world position y, x."""
        down, right = self.frame.to_world(x, y)
        return down * self._world, right * self._world

    def look_at(self, left: float, top: float, right: float, bottom: float) -> None:
        """Centre a level-0 box and zoom so that it takes about a third of the canvas."""
        y, x = self.to_world((left + right) / 2, (top + bottom) / 2)
        camera = self.viewer.scene.camera
        camera.center = (0.0, y, x)
        sx, sy = (s * self._world for s in self.frame.step)
        height, width = self.viewer.canvas.size
        across = width / max((right - left) * sx, 1e-6)
        down = height / max((bottom - top) * sy, 1e-6)
        camera.zoom = min(across / 3, down / 3, CLOSEST / min(sx, sy))

    @property
    def _world(self) -> float:
        """World units per unit of the frame."""
        units = self.viewer.layers.units
        if units is None:  # layers in px and in µm: napari then takes all scales as they are
            return 1.0
        return self.frame.in_unit(units[-1])
