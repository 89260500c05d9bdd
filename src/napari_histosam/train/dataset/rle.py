"""Run-length codes of masks, uncompressed, as COCO writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


def encode(mask: ArrayLike) -> dict[str, list[int]]:
    """Return a mask as ``{"size": [h, w], "counts": [...]}``.

    Parameters
    ----------
    mask : (h, w) bool

    Returns
    -------
    dict
        ``counts`` are lengths of runs down the columns, column after column, outside and inside
        in turn, beginning with outside (so 0 where the first px is inside).

    Notes
    -----
    The uncompressed form of the COCO API's ``mask.frPyObjects``.
    """
    pixels = np.asarray(mask, bool)
    height = pixels.shape[0]
    used = np.flatnonzero(pixels.any(0))
    # Most objects are small: only the columns that hold something are walked through.
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, -1)
    column_wise = pixels[:, first : last + 1].ravel(order="F")
    turns = np.flatnonzero(np.diff(column_wise, prepend=False, append=False)) + first * height
    edges = np.concatenate([[0], turns, [pixels.size]])
    counts = np.diff(edges).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        del counts[-1]  # the last px is inside
    return {"size": [int(side) for side in pixels.shape], "counts": counts}


def decode(code: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the (h, w) bool mask that `encode` was given.

    Raises
    ------
    ValueError
        If the counts do not fill the size.
    """
    height, width = code["size"]
    counts = np.asarray(code["counts"], np.int64)
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError(f"the counts do not fill {height} x {width} px")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape((width, height)).T
