"""The slide's frame in napari: world units at pixel centres, level-0 px at corners."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pint

from napari_histosam.errors import InputError
from napari_histosam.geometry.frames import (
    corner_from_napari,
    napari_from_corner,
    napari_layer_transform,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer

    from napari_histosam.geometry.window import Window


@dataclass(frozen=True)
class SlideFrame:
    """Maps napari's world to level-0 px and back.

    napari places the centre of pixel (0, 0) at the layer's translate; level-0 px here are corner
    based, so that half a pixel lies between the two.

    Parameters
    ----------
    step : tuple of float
        World units per level-0 px along x and y: the mpp where the slide has one.
    unit : str
        Name of the world's unit, as napari spells it.
    origin : tuple of float
        World x, y of the centre of level-0 pixel (0, 0).
    """

    step: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    origin: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of_slide(cls, mpp: tuple[float, float] | None) -> SlideFrame:
        """Return the frame of a slide that we show: µm if its mpp is known, else pixels."""
        return cls(mpp, "um") if mpp else cls()

    @classmethod
    def of_layer(cls, layer: Layer) -> SlideFrame:
        """Return the frame of a two-dimensional layer, wherever it lies.

        Raises
        ------
        InputError
            If it is rotated, sheared or mirrored: a window on it would not be upright.
        """
        origin, right, down = (np.asarray(layer.data_to_world(p)) for p in ((0, 0), (0, 1), (1, 0)))
        (tilt_x, sx), (sy, tilt_y) = right - origin, down - origin
        if layer.units[-2] != layer.units[-1]:
            raise InputError(f"The layer {layer.name} has two units; give it one for both axes.")
        if max(abs(tilt_x), abs(tilt_y)) > 1e-9 * max(abs(sx), abs(sy)) or min(sx, sy) <= 0:
            raise InputError(
                f"The layer {layer.name} is rotated, sheared or mirrored; reset its transform."
            )
        unit = str(layer.units[-1])
        return cls((float(sx), float(sy)), unit, (float(origin[1]), float(origin[0])))

    def with_mpp(self, mpp: tuple[float, float]) -> SlideFrame:
        """Return this frame in µm, its origin kept at the same level-0 px."""
        x, y = (o / s * m for o, s, m in zip(self.origin, self.step, mpp, strict=True))
        return replace(self, step=mpp, unit="um", origin=(x, y))

    def in_unit(self, unit: Any) -> float:
        """Return how many of ``unit``, a pint unit, one of this frame's units is; 1 if unlike."""
        own = pint.get_application_registry().Unit(self.unit)
        return float((1.0 * own).to(unit).magnitude) if own.is_compatible_with(unit) else 1.0

    @property
    def um(self) -> tuple[float, float] | None:
        """µm per level-0 px along x and y; None where the unit is no length."""
        micrometre = pint.get_application_registry().Unit("um")
        if not micrometre.is_compatible_with(self.unit):
            return None
        factor = self.in_unit(micrometre)
        return self.step[0] * factor, self.step[1] * factor

    def to_level0(self, world_yx: Sequence[float]) -> tuple[float, float]:
        """Map a world position (…, y, x) to level-0 px x, y."""
        (sx, sy), (ox, oy) = self.step, self.origin
        x, y = corner_from_napari(((world_yx[-2] - oy) / sy, (world_yx[-1] - ox) / sx))
        return float(x), float(y)

    def to_world(self, x: float, y: float) -> tuple[float, float]:
        """Map level-0 px to a world position y, x."""
        (sx, sy), (ox, oy) = self.step, self.origin
        down, right = napari_from_corner((x, y))
        return float(down) * sy + oy, float(right) * sx + ox

    def layer(self) -> dict[str, Any]:
        """Return what a layer in level-0 px gets: scale, translate, units, axis labels."""
        (sx, sy), (ox, oy) = self.step, self.origin
        return {
            "scale": (sy, sx),
            "translate": (oy, ox),
            "units": (self.unit, self.unit),
            "axis_labels": ("y", "x"),
        }

    def window_layer(self, window: Window) -> dict[str, Any]:
        """Return the same for a layer whose pixels are those of ``window``."""
        left, top, _, _ = window.bounds
        scale, (y, x) = napari_layer_transform((left, top), window.scale, self.step)
        translate = (y + self.origin[1], x + self.origin[0])
        return {**self.layer(), "scale": scale, "translate": translate}
