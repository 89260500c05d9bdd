"""What several models answer to the same prompts: masks, times, scores, and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.geometry.polygons import intersection

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from napari_histosam.session.previews import ObjectPreview


@dataclass(frozen=True)
class Entrant:
    """One model's answer.

    Parameters
    ----------
    model : str
    shown : ObjectPreview, optional
        None while it is on its way, or where there is trouble.
    encode_ms, decode_ms : float
        Time spent encoding (0 where the window was known already) and decoding.
    trouble : str
        One sentence why there is no answer.
    """

    model: str
    shown: ObjectPreview | None = None
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class Comparison:
    """The answers to one set of prompts, as far as they are in.

    Parameters
    ----------
    name : str
        The prompted object that they are of.
    generation : int
        The number of the prompt set.
    entrants : tuple of Entrant
        In the order in which the models were named.
    """

    name: str
    generation: int
    entrants: tuple[Entrant, ...]

    def entrant(self, model: str) -> Entrant | None:
        """Return a model's entrant, or None."""
        return next((one for one in self.entrants if one.model == model), None)

    def with_entrant(self, entrant: Entrant) -> Comparison:
        """Return the comparison with one entrant in place of the one of its model."""
        changed = tuple(entrant if one.model == entrant.model else one for one in self.entrants)
        return replace(self, entrants=changed)

    def agreement(self) -> NDArray[np.float64]:
        """Return the IoU of every two masks.

        Returns
        -------
        (n, n) float array
            In the order of ``entrants``, 1 on the diagonal; NaN where a mask is not there, 0
            where one of the two is empty.
        """
        count = len(self.entrants)
        out = np.full((count, count), np.nan)
        for row, one in enumerate(self.entrants):
            for column, other in enumerate(self.entrants[: row + 1]):
                if one.shown is not None and other.shown is not None:
                    found = 1.0
                    if row != column:
                        found = outline_iou(one.shown.geometry, other.shown.geometry)
                    out[row, column] = out[column, row] = found
        return out

    def record(self, model: str) -> str:
        """Return in words what the others answered where ``model``'s mask is kept.

        Returns
        -------
        str
            For each other model that answered, its name, score, and IoU with the mask kept;
            empty where there is none.
        """
        kept = next((row for row, one in enumerate(self.entrants) if one.model == model), None)
        if kept is None:
            return ""
        ious = self.agreement()[kept]
        parts = [
            f"{one.model} (score {one.shown.score:.2f}, IoU {iou:.2f})"
            for one, iou in zip(self.entrants, ious, strict=True)
            if one.model != model and one.shown is not None
        ]
        return "; ".join(parts)


def outline_iou(one: Polygon | MultiPolygon | None, other: Polygon | MultiPolygon | None) -> float:
    """Return the intersection over union of two outlines; 0 where one is missing."""
    if one is None or other is None:
        return 0.0
    common = intersection(one, other)
    shared = 0.0 if common is None else float(common.area)
    union = float(one.area) + float(other.area) - shared
    return shared / union if union > 0 else 0.0
