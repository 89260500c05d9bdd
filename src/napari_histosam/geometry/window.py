"""The window: the rectangle of slide that a model sees, and its map to level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Window:
    """An upright rectangle of slide, sampled at a given scale.

    All coordinates are corner based, x right and y down: pixel ``i`` covers ``i`` to ``i + 1``.

    Parameters
    ----------
    cx, cy : float
        Centre in level-0 px.
    scale : tuple of float
        Level-0 px per window px along x and y. They differ where the slide's mpp does.
    size : tuple of int
        Width and height in window px.
    """

    cx: float
    cy: float
    scale: tuple[float, float]
    size: tuple[int, int]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in level-0 px."""
        half_w = self.size[0] * self.scale[0] / 2
        half_h = self.size[1] * self.scale[1] / 2
        return (self.cx - half_w, self.cy - half_h, self.cx + half_w, self.cy + half_h)

    def to_level0(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map window px (..., 2) as x, y to level-0 px (..., 2)."""
        left, top, _, _ = self.bounds
        return np.asarray(points, np.float64) * np.asarray(self.scale) + (left, top)

    def from_level0(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map level-0 px (..., 2) as x, y to window px (..., 2)."""
        left, top, _, _ = self.bounds
        return (np.asarray(points, np.float64) - (left, top)) / np.asarray(self.scale)

    def contains(self, points: ArrayLike, margin: float = 0.0) -> bool:
        """Tell whether level-0 points (n, 2) all lie ``margin`` window px inside the border."""
        at = self.from_level0(points).reshape(-1, 2)
        return bool(
            (at >= margin).all()
            and (at[:, 0] <= self.size[0] - margin).all()
            and (at[:, 1] <= self.size[1] - margin).all()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {"cx": self.cx, "cy": self.cy, "scale": list(self.scale), "size": list(self.size)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Window:
        """Read what `to_dict` wrote."""
        sx, sy = data["scale"]
        w, h = data["size"]
        return cls(float(data["cx"]), float(data["cy"]), (float(sx), float(sy)), (int(w), int(h)))
