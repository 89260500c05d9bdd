"""One level of the optimistic pyramid, as the array that napari slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.viewer.pyramid import OptimisticPyramid

# The largest level that numpy.asarray makes; beyond it a plain sentence beats a full memory.
ASARRAY_LIMIT = 2 << 30


class OptimisticLevel:
    """One level as an array for napari: ``shape``, ``dtype``, ``chunks`` and slicing.

    Parameters
    ----------
    pyramid : OptimisticPyramid
    level : int
    """

    def __init__(self, pyramid: OptimisticPyramid, level: int) -> None:
        self.pyramid = pyramid
        self.dtype = pyramid.dtype
        self.level = level
        height, width = pyramid.tiles.shapes[level]
        tile = pyramid.tiles.tile
        if pyramid.channels:
            self.shape: tuple[int, ...] = (height, width, pyramid.channels)
            self.chunks: tuple[int, ...] = (tile, tile, pyramid.channels)
        else:
            self.shape = (height, width)
            self.chunks = (tile, tile)

    @property
    def ndim(self) -> int:
        """Number of axes: y, x and, for RGB, the channel."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        spans: list[tuple[int, int]] = []
        rest: list[slice | int] = []
        for part, length in zip(parts[:2], self.shape[:2], strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(length)
                low, high = (start, stop) if step > 0 else (stop + 1, start + 1)
                spans.append((low, max(low, high)))
                rest.append(slice(None, None, step))
            else:
                index = int(part) + (length if part < 0 else 0)
                if not 0 <= index < length:
                    raise IndexError(f"index {part} is out of bounds for size {length}")
                spans.append((index, index + 1))
                rest.append(0)
        (y0, y1), (x0, x1) = spans
        if y1 <= y0 or x1 <= x0:
            return np.zeros((y1 - y0, x1 - x0, *self.shape[2:]), self.dtype)
        found = self.pyramid.read(self.level, y0, y1, x0, x1)
        return found[(*rest, *parts[2:])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.level == len(self.pyramid.levels) - 1:
            found = self.pyramid.base
        elif self.size > ASARRAY_LIMIT:
            raise InputError(
                f"Level {self.level} has {self.shape[1]} x {self.shape[0]} px, too many for one "
                "array; read a part with slide.read_region or use slide.as_dask."
            )
        else:
            found = self.pyramid.exact(self.level, 0, self.shape[0], 0, self.shape[1])
        if dtype is not None and np.dtype(dtype) != found.dtype:
            return found.astype(dtype)
        return found.copy() if copy else found
