"""Corrections by hand, the same for a preview and for an accepted object: pure geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from napari_histosam.geometry import polygons

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    Shape: TypeAlias = Polygon | MultiPolygon
    Edit: TypeAlias = Callable[[Shape], Shape | None]


def brush(path: NDArray[np.float64], radius: float, *, erase: bool = False) -> Edit:
    """Return an edit that paints or erases along a path.

    Parameters
    ----------
    path : (n, 2) float array of x, y in level-0 px
    radius : float
        Level-0 px.
    erase : bool
    """
    stroke = polygons.brush_stroke(path, radius)
    return lambda shape: polygons.apply_brush(shape, stroke, erase=erase)


def fill_holes() -> Edit:
    """Return an edit that closes all holes."""
    return polygons.fill_holes


def smooth(radius: float) -> Edit:
    """Return an edit that rounds details smaller than ``radius`` level-0 px."""
    return lambda shape: polygons.smooth(shape, radius)
