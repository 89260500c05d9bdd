"""The origin of a file's coordinates: the slide's corner, or its bounds as QuPath crops to them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

OriginKind = Literal["qupath-bounds", "full-slide"]
ORIGIN_KINDS: tuple[OriginKind, ...] = ("qupath-bounds", "full-slide")


@dataclass(frozen=True)
class Origin:
    """Where a file's 0, 0 lies.

    QuPath crops a slide to OpenSlide's ``bounds-x/y/width/height`` by default, so its
    coordinates count from there; others (HALO, ASAP) count from the slide's own corner.

    Parameters
    ----------
    kind : {"qupath-bounds", "full-slide"}
    x, y : float
        In level-0 px of the full slide; subtracted on writing, added on reading.
    """

    kind: OriginKind = "full-slide"
    x: float = 0.0
    y: float = 0.0

    @classmethod
    def of(cls, kind: OriginKind, bounds: tuple[float, float, float, float] | None) -> Origin:
        """Return the origin of a kind on a slide with these bounds (x, y, w, h)."""
        if kind == "full-slide" or bounds is None:
            return cls(kind)
        return cls(kind, float(bounds[0]), float(bounds[1]))

    @property
    def shift(self) -> tuple[float, float]:
        """What is added to x and y on writing."""
        return (-self.x if self.x else 0.0, -self.y if self.y else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {"kind": self.kind, "x": self.x, "y": self.y}

    @classmethod
    def read(cls, data: Any) -> Origin | None:
        """Read what `to_dict` gave, as a dict or as JSON text; None if it is anything else."""
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError):
                return None
        if not isinstance(data, dict) or data.get("kind") not in ORIGIN_KINDS:
            return None
        x, y = data.get("x", 0.0), data.get("y", 0.0)
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in (x, y)):
            return None
        return cls(data["kind"], float(x), float(y))
