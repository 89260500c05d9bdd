"""A decoder's masks for one object, kept as small as they are and turned into outlines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.masks import mask_to_outline
from napari_histosam.geometry.polygons import intersection
from napari_histosam.geometry.window import Window
from napari_histosam.session.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from napari_histosam.models.protocols import Candidates
    from napari_histosam.records import Prompt


@dataclass(frozen=True, eq=False)
class Offered:
    """The masks that a decoder offers for one object, each cut to its bounding box.

    A window's masks take megabytes where the object takes kilobytes, and cleaning and tracing
    them takes as much longer.

    Parameters
    ----------
    corners : tuple of (int, int)
        Left and top of each crop in px of the masks.
    crops : tuple of (h, w) bool array
        Of size (0, 0) where the mask is empty.
    scores : (k,) float array
        The estimate that belongs to each mask, best first, 0 to 1.
    logits : (k, h, w) float32 array
        As the decoder gave them; (k, 0, 0) where it has none or they were let go.
    finer : int
        Px of the masks per window px.
    """

    corners: tuple[tuple[int, int], ...]
    crops: tuple[NDArray[np.bool_], ...] = field(repr=False)
    scores: NDArray[np.float64]
    logits: NDArray[np.float32] = field(repr=False)
    finer: int = 1

    @classmethod
    def of(
        cls, candidates: Candidates, *, count: int | None = None, logits: bool = True
    ) -> Offered:
        """Keep the first ``count`` candidates (all without it), with or without their logits."""
        cut = [_crop(mask) for mask in candidates.masks[:count]]
        scores = np.array(candidates.scores[:count], np.float64)
        kept = candidates.logits[:count] if logits else np.zeros((len(cut), 0, 0), np.float32)
        return cls(
            tuple(c for c, _ in cut),
            tuple(m for _, m in cut),
            scores,
            np.array(kept),
            candidates.finer,
        )

    def __len__(self) -> int:
        return len(self.crops)

    def mask(self, index: int, window: Window) -> NDArray[np.bool_]:
        """Return a candidate over the whole window, as the decoder gave it.

        (height, width) bool, ``finer`` times those of the window.
        """
        (left, top), crop = self.corners[index], self.crops[index]
        width, height = (self.finer * side for side in window.size)
        out = np.zeros((height, width), np.bool_)
        out[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return out

    def outline(
        self,
        index: int,
        window: Window,
        prompts: Sequence[Prompt],
        slide_size: tuple[int, int],
        *,
        whole: bool = False,
    ) -> Polygon | MultiPolygon | None:
        """Return a candidate's cleaned outline.

        Parameters
        ----------
        index : int
        window : Window
            The one that the decoder saw.
        prompts : sequence of Prompt
            See `tidy`, as for ``whole``.
        slide_size : tuple of int
            Width and height; an outline ends at the slide's edge.

        Returns
        -------
        Polygon, MultiPolygon or None
            Level-0 px; None where the mask is empty.
        """
        crop = self.crops[index]
        if not crop.size:
            return None
        # A rim of one unset pixel, so that a notch at the box's edge is not taken for a hole.
        rimmed = np.pad(crop, 1)
        place = _part(_finer(window, self.finer), self.corners[index], rimmed.shape)
        outline = mask_to_outline(tidy(rimmed, prompts, place, whole=whole), place)
        if outline is None:
            return None
        left, top, right, bottom = outline.bounds
        if left >= 0 and top >= 0 and right <= slide_size[0] and bottom <= slide_size[1]:
            return outline
        return intersection(outline, shapely.box(0, 0, *slide_size))


def _crop(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return (0, 0), np.zeros((0, 0), np.bool_)
    band = mask[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(band.any(axis=0))
    return (int(columns[0]), int(rows[0])), band[:, columns[0] : columns[-1] + 1].copy()


def _finer(window: Window, times: int) -> Window:
    """Return the same place, sampled more finely."""
    scale = window.scale[0] / times, window.scale[1] / times
    return Window(window.cx, window.cy, scale, (window.size[0] * times, window.size[1] * times))


def _part(window: Window, corner: tuple[int, int], shape: tuple[int, int]) -> Window:
    """Return the window of a rimmed crop."""
    height, width = shape
    left, top = corner[0] - 1, corner[1] - 1
    cx, cy = window.to_level0([left + width / 2, top + height / 2])
    return Window(float(cx), float(cy), window.scale, (width, height))
