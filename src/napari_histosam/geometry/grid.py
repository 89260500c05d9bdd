"""A grid of square patches over a slide: which cell a point lies in, which cells a region takes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from shapely.geometry.base import BaseGeometry

Cell = tuple[int, int]
Box = tuple[float, float, float, float]

# A line is looked at this often per side of a cell, so that it misses corners only.
_LOOKS = 8


@dataclass(frozen=True)
class PatchGrid:
    """Cells from the slide's corner on: column 0, row 0 is the upper left one.

    A cell belongs to the grid if its middle lies on the slide, so those at the right and lower
    edge may stick out by less than half.

    Parameters
    ----------
    side : tuple of float
        Of a cell along x and y, level-0 px. The two differ where a slide's px are not square.
    size : tuple of int
        Width and height of the slide, level-0 px.

    Raises
    ------
    ValueError
        If a side or a size is not positive.
    """

    side: tuple[float, float]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not (min(self.side) > 0 and max(self.side) < math.inf and min(self.size) > 0):
            raise ValueError(f"a grid of {self.side} px on {self.size} px is none")

    @classmethod
    def of(cls, size: tuple[int, int], mpp: tuple[float, float] | None, side: float) -> PatchGrid:
        """Return the grid of a slide.

        Parameters
        ----------
        size : tuple of int
            Width and height of the slide, level-0 px.
        mpp : tuple of float, optional
            µm per level-0 px along x and y.
        side : float
            Of a cell: µm, or level-0 px where ``mpp`` is not known.
        """
        sx, sy = mpp or (1.0, 1.0)
        return cls((side / sx, side / sy), size)

    @property
    def columns(self) -> int:
        """How many cells lie side by side."""
        return max(1, math.ceil(self.size[0] / self.side[0] - 0.5))

    @property
    def rows(self) -> int:
        """How many cells lie one below the other."""
        return max(1, math.ceil(self.size[1] / self.side[1] - 0.5))

    def at(self, x: float, y: float) -> Cell | None:
        """Return the column and row of the cell at a level-0 point, None outside of the grid."""
        column, row = math.floor(x / self.side[0]), math.floor(y / self.side[1])
        return (column, row) if self.holds(column, row) else None

    def holds(self, column: int, row: int) -> bool:
        """Tell whether there is such a cell."""
        return 0 <= column < self.columns and 0 <= row < self.rows

    def box(self, column: int, row: int) -> Box:
        """Return a cell's left, top, width and height, level-0 px."""
        width, height = self.side
        return column * width, row * height, width, height

    def middle(self, column: int, row: int) -> tuple[float, float]:
        """Return the level-0 point in the middle of a cell."""
        return (column + 0.5) * self.side[0], (row + 0.5) * self.side[1]

    def seen(self, left: float, top: float, right: float, bottom: float) -> tuple[range, range]:
        """Return the columns and rows that a level-0 rectangle meets."""
        (w, h), (columns, rows) = self.side, (self.columns, self.rows)
        return (
            range(max(0, math.floor(left / w)), min(columns, math.ceil(right / w))),
            range(max(0, math.floor(top / h)), min(rows, math.ceil(bottom / h))),
        )

    def inside(self, region: BaseGeometry) -> NDArray[np.int64]:
        """Return the cells whose middle lies inside a region: (n, 2) columns and rows, by row."""
        if region.is_empty:
            return np.zeros((0, 2), np.int64)
        columns, rows = self.seen(*region.bounds)
        column, row = np.meshgrid(np.asarray(columns), np.asarray(rows))
        shapely.prepare(region)
        found = shapely.contains_xy(
            region, (column + 0.5) * self.side[0], (row + 0.5) * self.side[1]
        )
        return np.stack([column[found], row[found]], axis=1).astype(np.int64)

    def along(self, path: ArrayLike) -> list[Cell]:
        """Return the cells that a line through level-0 points (n, 2) passes, in its order."""
        points = np.asarray(path, float).reshape(-1, 2)
        step = min(self.side) / _LOOKS
        parts = [points[:1]]
        for start, end in itertools.pairwise(points):
            count = max(1, math.ceil(float(np.hypot(*(end - start))) / step))
            parts.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
        cells = (self.at(float(x), float(y)) for x, y in np.concatenate(parts))
        return list(dict.fromkeys(cell for cell in cells if cell is not None))
