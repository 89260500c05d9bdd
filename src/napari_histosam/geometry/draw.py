"""Draws polygons into a small label image for the screen: quick, and good to half a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window

# OpenCV takes fixed-point coordinates with this many fractional bits.
SHIFT = 4


def draw_geometry(
    canvas: NDArray[np.uint8],
    geometry: BaseGeometry,
    window: Window,
    *,
    fill: int | None,
    line: int,
    thickness: int = 2,
) -> None:
    """Draw a polygon with its holes into ``canvas``, in place.

    Parameters
    ----------
    canvas : (height, width) uint8 array of the window's size
    geometry : Polygon or MultiPolygon
        Level-0 px, corner based. Anything else is left out.
    window : Window
    fill, line : int
        Values for the inside and the outline; without ``fill`` the inside stays as it was.
    thickness : int
        Of the outline, in canvas px.

    Notes
    -----
    For the screen only: exact masks come from ``geometry.masks.polygons_to_mask``.
    """
    import cv2

    rings = []
    for part in shapely.get_parts(geometry):
        if part.geom_type != "Polygon":
            continue
        for ring in (part.exterior, *part.interiors):
            # OpenCV's pixel (0, 0) has its centre at 0; ours has it at 0.5.
            at = window.from_level0(shapely.get_coordinates(ring)) - 0.5
            rings.append(np.round(at * (1 << SHIFT)).astype(np.int32))
    if rings:
        if fill is not None:
            cv2.fillPoly(canvas, rings, fill, lineType=cv2.LINE_8, shift=SHIFT)
        cv2.polylines(canvas, rings, True, line, thickness, cv2.LINE_8, SHIFT)
