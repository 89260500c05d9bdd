"""Draws the points that prompt SAM, and judges whether SAM's mask agrees with the heat map."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

MOST = 50
# Pseudo-masks are learned from if so much of them lies in the heat map's mask.
AGREED = 0.9


class Draws(Protocol):
    """A random generator, numpy's new or old kind."""

    def choice(self, a: int, size: int, replace: bool, p: Any = ...) -> NDArray[np.int64]:
        """Draw ``size`` numbers below ``a``."""
        ...


def drawn(
    mask: NDArray[np.bool_],
    rng: Draws,
    weights: NDArray[np.float32] | None = None,
    most: int = MOST,
) -> NDArray[np.int64]:
    """Draw different px of a mask.

    Parameters
    ----------
    mask : (h, w) bool array
    rng : Generator or RandomState
    weights : (h, w) float array, optional
        How likely each px is drawn; else all the same.
    most : int

    Returns
    -------
    (k, 2) int array
        x, y; as many as asked for, or as there are px that can be drawn: perhaps none.
    """
    rows, columns = np.nonzero(mask)
    share = None
    usable = len(rows)
    if weights is not None:
        share = weights[rows, columns].astype(np.float64)
        usable = int(np.count_nonzero(share))
        if usable:
            share = share / share.sum()
    if not usable:
        return np.zeros((0, 2), np.int64)
    count = min(most, usable)
    chosen = rng.choice(len(rows), size=count, replace=False, p=share)
    return np.stack([columns[chosen], rows[chosen]], 1).astype(np.int64)


def generator_of(image: NDArray[np.uint8]) -> np.random.Generator:
    """Return a generator that a patch always gets, wherever and whenever it is read."""
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def agreement(heat: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Return the share of a mask that lies in the heat map's, the authors' IDS: 0 to below 1."""
    return float((heat & mask).sum() / (mask.sum() + 1))
