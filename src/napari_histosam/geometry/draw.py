"""Polygons for the screen: in a small label image, good to half a pixel, or line by line."""

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


def outline_sides(geometry: BaseGeometry) -> NDArray[np.float64]:
    """Return the sides of a polygon's rings as viewers draw lines.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
        Level-0 px, corner based. Anything else is left out.

    Returns
    -------
    (n, 2, 2) float array
        Of each side its start and the way to its end; y before x, pixel centres whole.
    """
    sides = [np.zeros((0, 2, 2))]
    for part in shapely.get_parts(geometry):
        if part.geom_type == "Polygon":
            for ring in (part.exterior, *part.interiors):
                at = shapely.get_coordinates(ring)[:, ::-1] - 0.5
                sides.append(np.stack([at[:-1], np.diff(at, axis=0)], 1))
    return np.concatenate(sides)
