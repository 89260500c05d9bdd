"""Lazy dask arrays over a slide's levels, exact, and fit to be sent to other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.slide.slide import Slide

_CHUNK = 1024


class LevelArray:
    """One level as an array-like (h, w, 3) uint8 that reads only what is asked for.

    Parameters
    ----------
    slide : Slide
    level : int
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide, self._level = slide, level
        self.shape = (*slide.levels[level].shape, 3)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        rows, cols, *rest = key if isinstance(key, tuple) else (key, slice(None))
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = cols.indices(self.shape[1])
        got = self._slide.read_level(self._level, left, top, right - left, bottom - top)
        return got[:, :, rest[0]] if rest else got


def dask_level(slide: Slide, level: int) -> Any:
    """Return a lazy dask array (h, w, 3) uint8 of a level.

    Chunks are about 1024 px, whole multiples of the stored tiles. A slide in the graph is reopened
    by its path on the worker that reads it.
    """
    import dask.array as da

    sizes = [max(_CHUNK // t, 1) * t if t <= 2 * _CHUNK else _CHUNK for t in slide.tile[::-1]]
    array = LevelArray(slide, level)
    return da.from_array(
        array,
        chunks=(*sizes, 3),
        name=f"slide-{slide.identity[:24]}-{level}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0), np.uint8),
    )
