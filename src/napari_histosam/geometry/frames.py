"""Convert points between napari's centre-based frame, corner-based level-0 px, and µm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def corner_from_napari(
    data_yx: ArrayLike, downsample: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Map napari data coordinates to corner-based level-0 px.

    napari puts the centre of pixel ``i`` at ``i``; here pixel ``i`` covers ``i`` to ``i + 1``.

    Parameters
    ----------
    data_yx : (..., 2) float
        y, x in the layer's px.
    downsample : (float, float)
        Level-0 px per layer px along x and y.

    Returns
    -------
    (..., 2) float64
        x, y in level-0 px.
    """
    yx = np.asarray(data_yx, np.float64)
    return (yx[..., ::-1] + 0.5) * np.asarray(downsample, np.float64)


def napari_from_corner(
    xy: ArrayLike, downsample: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Map corner-based level-0 px (..., 2) as x, y to napari data coordinates as y, x."""
    at = np.asarray(xy, np.float64) / np.asarray(downsample, np.float64) - 0.5
    return at[..., ::-1]


def um_from_corner(xy: ArrayLike, mpp: tuple[float, float]) -> NDArray[np.float64]:
    """Map corner-based level-0 px (..., 2) as x, y to µm; ``mpp`` is µm/px along x and y."""
    return np.asarray(xy, np.float64) * np.asarray(mpp, np.float64)


def corner_from_um(um: ArrayLike, mpp: tuple[float, float]) -> NDArray[np.float64]:
    """Map µm (..., 2) as x, y from the slide's upper left corner to level-0 px."""
    return np.asarray(um, np.float64) / np.asarray(mpp, np.float64)


def napari_layer_transform(
    left_top: tuple[float, float],
    downsample: tuple[float, float],
    unit: tuple[float, float] = (1.0, 1.0),
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return napari's (scale, translate), both y, x, for an array laid over the slide.

    Parameters
    ----------
    left_top : (float, float)
        x, y of the array's upper left corner in level-0 px, corner based.
    downsample : (float, float)
        Level-0 px per array px along x and y.
    unit : (float, float)
        World units (µm) per level-0 px along x and y: the mpp, or 1 without one.

    Notes
    -----
    The centre of level-0 pixel 0 is the world's origin, as for a napari layer of level 0 with
    scale = mpp and no translate; so array pixel 0 is centred at
    ``(left + downsample / 2 - 0.5) * unit``.
    """
    down, um = np.asarray(downsample, np.float64), np.asarray(unit, np.float64)
    scale = down * um
    move = (np.asarray(left_top, np.float64) + down / 2 - 0.5) * um
    return (float(scale[1]), float(scale[0])), (float(move[1]), float(move[0]))
