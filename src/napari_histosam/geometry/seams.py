"""Traces a mask that comes in bands, so that one larger than the memory gives whole polygons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.masks import edges_to_outline, mask_to_polygons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from shapely import Polygon


@dataclass(frozen=True)
class Part:
    """A connected part of a mask.

    Parameters
    ----------
    outline : Polygon
        In the mask's px, as `napari_histosam.geometry.masks.mask_to_outline` draws it.
    pixels : int
    sums : tuple of float
        Of each of the values that came with the bands, over the part's pixels.
    """

    outline: Polygon
    pixels: int
    sums: tuple[float, ...]


@dataclass
class _Open:
    """What is known of a part that the next band may go on with."""

    pieces: list[Polygon] = field(default_factory=list)
    pixels: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class BandTracer:
    """Follows the parts of a mask from band to band.

    The parts are 4-connected, as those of `napari_histosam.geometry.trace`; where the bands are cut
    makes no difference. What is kept between bands are the outlines of the parts that the last row
    cuts, no pixels but those of that row.

    Parameters
    ----------
    width : int
        Of the mask in px.
    """

    def __init__(self, width: int) -> None:
        self._row = np.zeros(width, np.int64)  # the part of each px of the last row, 0 for none
        self._open: dict[int, _Open] = {}
        self._next = 1
        self._y = 0

    def add(
        self, mask: NDArray[np.bool_], values: Sequence[NDArray[np.generic]] = ()
    ) -> Iterator[Part]:
        """Take the next band; yield the parts that end in it.

        Parameters
        ----------
        mask : (h, width) bool array
        values : sequence of (h, width) arrays
            What is to be summed over each part; always as many.
        """
        if not mask.size:
            return
        fresh, labels = self._parts(mask, values)
        self._row = self._join(fresh, labels[0])[labels[-1]]
        self._y += mask.shape[0]
        held = set(np.unique(self._row[self._row > 0]).tolist())
        for number in sorted(set(self._open) - held):
            yield _closed(self._open.pop(number))

    def end(self) -> Iterator[Part]:
        """Yield the parts that the last band cut."""
        for number in sorted(self._open):
            yield _closed(self._open.pop(number))

    def _parts(
        self, mask: NDArray[np.bool_], values: Sequence[NDArray[np.generic]]
    ) -> tuple[list[_Open], NDArray[np.int32]]:
        """Return the parts of a band by itself, in the order of their labels, and the labels."""
        import cv2

        pixels = np.ascontiguousarray(mask).view(np.uint8)
        if not pixels.any():
            return [], np.zeros(mask.shape, np.int32)
        count, found = cv2.connectedComponents(pixels, connectivity=4, ltype=cv2.CV_32S)
        labels = np.asarray(found, np.int32)
        inside = labels[mask]
        areas = np.bincount(inside, minlength=count)
        sums = np.zeros((count, len(values)))
        for column, value in enumerate(values):
            sums[:, column] = np.bincount(inside, value[mask], count)
        parts = [_Open([], int(areas[n]), sums[n]) for n in range(1, count)]
        polygons = np.atleast_1d(shapely.get_parts(mask_to_polygons(mask)))
        # The px at the lower right of the first corner in raster order belongs to the part.
        xy, of = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
        order = np.lexsort((xy[:, 0], xy[:, 1], of))
        first = order[np.searchsorted(of[order], np.arange(len(polygons)))]
        at = xy[first].astype(np.int64)
        moved = shapely.transform(polygons, lambda points: points + np.array([0, self._y]))
        for label, polygon in zip(labels[at[:, 1], at[:, 0]].tolist(), moved, strict=True):
            parts[label - 1].pieces.append(polygon)
        return parts, labels

    def _join(self, fresh: list[_Open], top: NDArray[np.int32]) -> NDArray[np.int64]:
        """Join a band's parts with those above; return the number of each label's part."""
        numbers = np.arange(self._next - 1, self._next + len(fresh), dtype=np.int64)
        numbers[0] = 0
        self._next += len(fresh)
        for number, part in zip(numbers[1:].tolist(), fresh, strict=True):
            self._open[number] = part
        touching = (self._row > 0) & (top > 0)
        pairs = np.unique(np.stack([self._row[touching], numbers[top[touching]]]), axis=1)
        into: dict[int, int] = {}

        def root(number: int) -> int:
            while number in into:
                number = into[number]
            return number

        for above, below in pairs.T.tolist():
            first, second = sorted((root(above), root(below)))
            if first == second:
                continue
            into[second] = first
            kept, gone = self._open[first], self._open.pop(second)
            kept.pieces += gone.pieces
            kept.pixels += gone.pixels
            kept.sums = kept.sums + gone.sums
        return np.array([root(number) for number in numbers.tolist()], np.int64)


def _closed(part: _Open) -> Part:
    whole = part.pieces[0] if len(part.pieces) == 1 else shapely.union_all(part.pieces)
    outline = shapely.orient_polygons(edges_to_outline(whole, part.pixels))
    return Part(outline, part.pixels, tuple(part.sums.tolist()))
