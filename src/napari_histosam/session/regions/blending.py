"""Puts the probabilities of overlapping windows together, so that no seam shows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.session.automate.plan import TilePlan

    Box = tuple[int, int, int, int]

# Windows are kept in steps of 1/65535 until they are blended, maps in steps of 1/255.
FINE = 65535


def as_fine(likely: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return probabilities in the steps in which windows are kept."""
    return np.rint(np.clip(likely, 0, 1) * FINE).astype(np.uint16)


def ramp(size: int, margin: int) -> NDArray[np.float32]:
    """Return the weight of each px along a window's side.

    It rises over the two margins in which neighbours overlap and falls again, so that the weights
    of neighbours in the grid add up to one; it is above zero everywhere.
    """
    if not margin:
        return np.ones(size, np.float32)
    at = np.arange(size) + 0.5
    return np.minimum(np.minimum(at, size - at) / (2 * margin), 1).astype(np.float32)


class Blender:
    """Knows which windows cover a box, and blends them.

    Parameters
    ----------
    plan : TilePlan
    numbers : sequence of int
        The tiles that are looked at, ascending.
    """

    def __init__(self, plan: TilePlan, numbers: Sequence[int]) -> None:
        self._plan = plan
        self._wanted = np.asarray(numbers, np.int64)
        self._firsts = plan.firsts(0), plan.firsts(1)
        self._ramps = tuple(ramp(plan.size[axis], plan.margin[axis]) for axis in (0, 1))

    def box(self, number: int) -> Box:
        """Return left, top, right, bottom of a tile's window in window px."""
        across = self._plan.count[0]
        left, top = self._firsts[0][number % across], self._firsts[1][number // across]
        return left, top, left + self._plan.size[0], top + self._plan.size[1]

    def covering(self, box: Box) -> list[int]:
        """Return the tiles whose windows meet a box, ascending."""
        spans = []
        for axis in (0, 1):
            firsts = self._firsts[axis]
            begin = bisect_right(firsts, box[axis] - self._plan.size[axis])
            spans.append(range(begin, bisect_left(firsts, box[axis + 2])))
        across = self._plan.count[0]
        found = [row * across + column for row in spans[1] for column in spans[0]]
        at = np.searchsorted(self._wanted, found)
        at = np.minimum(at, max(len(self._wanted) - 1, 0))
        return [n for n, i in zip(found, at.tolist(), strict=True) if self._is(n, i)]

    def blended(
        self,
        box: Box,
        tiles: Iterable[int],
        read: Callable[[int], NDArray[np.uint16]],
        kinds: int,
    ) -> NDArray[np.uint8]:
        """Return the map of a box, (kinds, h, w); 0 where no window lies.

        Parameters
        ----------
        box : tuple of int
        tiles : iterable of int
            Those that are done; their order decides the last bit, so always ascending.
        read : callable
            Returns a tile's probabilities (kinds, h, w), in steps of 1/65535.
        kinds : int
        """
        left, top, right, bottom = box
        total = np.zeros((kinds, bottom - top, right - left), np.float32)
        weight = np.zeros(total.shape[1:], np.float32)
        for number in tiles:
            x0, y0, x1, y1 = self.box(number)
            # What box and window share, in px of the one and of the other.
            l0, t0, r0, b0 = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
            here = slice(t0 - top, b0 - top), slice(l0 - left, r0 - left)
            there = slice(t0 - y0, b0 - y0), slice(l0 - x0, r0 - x0)
            share = self._ramps[1][there[0], None] * self._ramps[0][there[1]]
            total[:, *here] += read(number)[:, *there] * share
            weight[here] += share
        np.maximum(weight, np.float32(1e-12), out=weight)
        return np.floor(total / weight * np.float32(255 / FINE) + np.float32(0.5)).astype(np.uint8)

    def _is(self, number: int, at: int) -> bool:
        return bool(len(self._wanted)) and int(self._wanted[at]) == number
