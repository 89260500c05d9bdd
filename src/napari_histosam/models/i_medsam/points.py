"""What the implicit networks are told of each point of an output grid: 351 numbers.

32 of SAM's upscaled image, 256 of its code of places, both bilinear as if the whole map had been
resized to the grid, and 63 of the point's own coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CODE = 63
_FREQUENCIES = 10


@dataclass(frozen=True)
class Region:
    """Part of an output grid, from its first row and column to those behind its last.

    Parameters
    ----------
    left, top, right, bottom : int
        Grid px.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def count(self) -> int:
        """How many points it has."""
        return (self.bottom - self.top) * (self.right - self.left)


class Sampler:
    """The inputs of the points of a region, rows at a time.

    Parameters
    ----------
    maps : sequence of (c, h, w) tensor
        In the order of the input.
    grid : tuple of int
        Height and width of the whole output grid.
    region : Region
    progress : float
        Share of the training done: the last coordinate columns are zeroed before it reaches 1.
    """

    def __init__(
        self,
        maps: tuple[Tensor, ...],
        grid: tuple[int, int],
        region: Region,
        progress: float = 1.0,
    ) -> None:
        self._grid, self.region = grid, region
        self._progress = progress
        device = maps[0].device
        columns = torch.arange(region.left, region.right, device=device)
        # Along x everything is needed in full; along y only as far as rows are asked for.
        self._maps = tuple(_taken(m, columns, grid[1], 2) for m in maps)
        self._x = axis_code(grid[1], columns)

    def rows(self, first: int, last: int) -> Tensor:
        """Return the inputs (n, 351) of the region's rows ``first`` to ``last`` - 1, row-major."""
        device = self._maps[0].device
        rows = torch.arange(self.region.top + first, self.region.top + last, device=device)
        maps = [_taken(m, rows, self._grid[0], 1).flatten(1).T for m in self._maps]
        return torch.cat([*maps, self._code(rows)], 1)

    def _code(self, rows: Tensor) -> Tensor:
        y, x = axis_code(self._grid[0], rows), self._x
        # An axis of one px: upstream gives every point the depth -1.
        z = axis_code(1, torch.zeros(1, dtype=torch.long, device=rows.device))
        n, m = len(rows), len(x[0])
        each = [
            tuple(part[None].expand(n, m, -1) for part in z),
            tuple(part[:, None].expand(n, m, -1) for part in y),
            tuple(part[None].expand(n, m, -1) for part in x),
        ]
        code = torch.cat([axis[kind] for kind in range(3) for axis in each], -1).flatten(0, 1)
        shown = min(int(CODE * self._progress) + 3, CODE)
        if shown < CODE:
            code = code.clone()
            code[:, shown:] = 0
        return code


def axis_code(length: int, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sines (n, 10), cosines (n, 10) and coordinates (n, 1) of indices along an axis.

    Coordinates go from -1 at the first to 1 at the last; an axis of length 1 has -1. In float32
    and in upstream's order of multiplication, (2 pi p) f: the angle reaches 6434, so another order
    changes the code by up to 2e-4.
    """
    device = indices.device
    p = torch.linspace(-1, 1, length, device=device)[indices]
    factors = 2.0 ** torch.linspace(0, 10, _FREQUENCIES, device=device)
    angle = (2 * math.pi * p)[:, None] * factors
    return torch.sin(angle), torch.sin(angle + math.pi / 2), p[:, None]


def _taken(maps: Tensor, indices: Tensor, length: int, axis: int) -> Tensor:
    """Return maps (c, h, w) at indices of an axis as if that had been resized to ``length``."""
    old = maps.shape[axis]
    at = ((indices.to(torch.float32) + 0.5) * (old / length) - 0.5).clamp(min=0)
    low = at.floor().long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    share = (at - low).to(maps.dtype)
    share = share[:, None] if axis == 1 else share
    return maps.index_select(axis, low) * (1 - share) + maps.index_select(axis, high) * share
