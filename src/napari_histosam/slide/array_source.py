"""RGB arrays that are already in memory or lazy: numpy, dask, zarr, or a napari layer's levels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.identity import pixel_identity
from napari_histosam.slide.pixels import PixelFormat, to_rgb8
from napari_histosam.slide.source import (
    WHITE,
    LevelReader,
    SourceInfo,
    levels_from_sizes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.slide.source import RGB


class ArraySource(LevelReader):
    """A multiscale RGB(A) image given as array-likes, finest first.

    Parameters
    ----------
    levels : sequence of array-like
        Each (h, w, 3) or (h, w, 4), uint8, uint16 (``value >> 8``) or float (0 to 1, as napari
        shows it); alpha is straight and laid on white.
    mpp : tuple of float, optional
        µm per level-0 px (x, y).
    name : str
    """

    def __init__(self, levels: Sequence[Any], mpp: tuple[float, float] | None, name: str) -> None:
        self._levels = list(levels)
        if not self._levels:
            raise InputError(f"{name} holds no image.")
        sizes = [self._check(a, name) for a in self._levels]
        areas = [w * h for w, h in sizes]
        if any(b >= a for a, b in itertools.pairwise(areas)):
            raise InputError(f"The levels of {name} must go from fine to coarse.")
        self._name = name
        last = sizes[-1]
        # A napari layer has no file: its coarsest px (a middle part if that is large) stand for it.
        w, h = min(last[0], 1024), min(last[1], 1024)
        x, y = (last[0] - w) // 2, (last[1] - h) // 2
        self.info = SourceInfo(
            name=name,
            format="napari-layer",
            backend="array",
            identity=pixel_identity(
                "array",
                [(tuple(a.shape), str(a.dtype)) for a in self._levels],
                self._read(len(sizes) - 1, x, y, x + w, y + h),
            ),
            levels=levels_from_sizes(sizes),
            mpp=mpp,
        )

    def close(self) -> None:
        """Let go of the arrays."""
        self._levels = []

    def _read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        if not self._levels:
            raise InputError(f"{self._name} is closed; open it again.")
        got: NDArray[Any] = np.asarray(self._levels[level][top:bottom, left:right])
        if got.dtype.kind == "f":
            got = np.floor(np.clip(np.nan_to_num(got), 0, 1) * 255 + 0.5).astype(np.uint8)
        fmt = PixelFormat("rgb", 8 * got.dtype.itemsize, "straight" if got.shape[-1] == 4 else None)
        return to_rgb8(got, fmt, WHITE)

    @staticmethod
    def _check(array: Any, name: str) -> tuple[int, int]:
        shape, dtype = tuple(array.shape), np.dtype(array.dtype)
        right_kind = dtype in (np.uint8, np.uint16) or dtype.kind == "f"
        if len(shape) != 3 or shape[2] not in (3, 4) or not right_kind or 0 in shape:
            raise InputError(
                f"{name} is an array of shape {shape} and type {dtype}; a slide needs RGB:"
                " (height, width, 3 or 4) of uint8, uint16 or float."
            )
        return int(shape[1]), int(shape[0])
