"""Lays a model's windows over a part of a slide, so that each object belongs to one of them.

Serves whatever is worked out window by window: objects, and maps of regions.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.session.windows import base_scale

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.slide import Slide, TissueMask

    Bounds = tuple[float, float, float, float]

# Overlap on each side as a share of the window, and at least so many window px: an object whose
# middle lies in the core must fit into the window with what the model needs to see around it.
MARGIN = 1 / 8
LEAST_MARGIN_PX = 64


@dataclass(frozen=True)
class Tile:
    """One window of a plan.

    Parameters
    ----------
    number : int
        Its place on the grid, row by row; the same whenever the plan is made again.
    window : Window
        What the model sees; it lies on the slide as far as that is large enough.
    core : tuple of float
        Left, top, right, bottom in level-0 px. The cores cover the plane without overlap.
    """

    number: int
    window: Window
    core: Bounds


@dataclass(frozen=True)
class TilePlan:
    """The windows over a region.

    Parameters
    ----------
    region : shapely geometry
        Polygon(s), level-0 px, cut to the slide.
    whole : bool
        Whether that is the whole slide.
    slide_size : tuple of int
        Width and height in level-0 px.
    scale : tuple of float
        Level-0 px per window px along x and y.
    size : tuple of int
        Width and height of the windows in px.
    margin, start, count : tuple of int
        Along x and y: how far a window reaches beyond its core, where the first core begins
        (window px from the slide's corner), and how many cores there are.
    """

    region: BaseGeometry = field(repr=False)
    whole: bool
    slide_size: tuple[int, int]
    scale: tuple[float, float]
    size: tuple[int, int]
    margin: tuple[int, int]
    start: tuple[int, int]
    count: tuple[int, int]

    def tiles(self, tissue: TissueMask | None = None) -> Iterator[Tile]:
        """Yield the windows whose core meets the region and, given ``tissue``, some of it."""
        shapely.prepare(self.region)
        for row in range(self.count[1]):
            for column in range(self.count[0]):
                tile = self.tile(row * self.count[0] + column)
                if not self.whole and not self.region.intersects(shapely.box(*tile.core)):
                    continue
                if tissue is None or tissue.fraction(*tile.core) > 0:
                    yield tile

    def on_slide_edge(self, tile: Tile) -> tuple[bool, bool, bool, bool]:
        """Tell at which of its sides (left, top, right, bottom) a window ends with the slide."""
        left, top, right, bottom = tile.window.bounds
        return (
            left <= 0,
            top <= 0,
            right >= self.slide_size[0],
            bottom >= self.slide_size[1],
        )

    def describe(self) -> dict[str, Any]:
        """Return all that decides the windows, as JSON values."""
        return {
            "region": "whole" if self.whole else shapely.to_wkt(self.region, rounding_precision=3),
            "slide_size": list(self.slide_size),
            "scale": list(self.scale),
            "size": list(self.size),
            "margin": list(self.margin),
            "start": list(self.start),
            "count": list(self.count),
        }

    @property
    def extent(self) -> tuple[int, int]:
        """Width and height of the slide in window px."""
        wide, high = (math.ceil(self.slide_size[axis] / self.scale[axis]) for axis in (0, 1))
        return wide, high

    def firsts(self, axis: int) -> list[int]:
        """Return where the windows of each column (axis 0) or row (1) begin, in window px."""
        return [self._first(axis, at) for at in range(self.count[axis])]

    def tile(self, number: int) -> Tile:
        """Return the tile with a number."""
        sides = []
        for axis, at in enumerate((number % self.count[0], number // self.count[0])):
            step = self.size[axis] - 2 * self.margin[axis]
            core = self.start[axis] + at * step
            middle = self._first(axis, at) + self.size[axis] / 2
            scale = self.scale[axis]
            sides.append((middle * scale, core * scale, step * scale))
        (cx, left, wide), (cy, top, high) = sides
        return Tile(
            number, Window(cx, cy, self.scale, self.size), (left, top, left + wide, top + high)
        )

    def _first(self, axis: int, at: int) -> int:
        """Return where a column's or row's windows begin, in window px."""
        step = self.size[axis] - 2 * self.margin[axis]
        # Moved onto the slide: real tissue tells a model more than painted background.
        most = max(self.extent[axis] - self.size[axis], 0)
        return min(max(self.start[axis] + at * step - self.margin[axis], 0), most)


def plan_tiles(
    slide: Slide,
    card: ModelCard,
    region: BaseGeometry | None = None,
    *,
    shift: tuple[int, int] = (0, 0),
    least_margin: int = LEAST_MARGIN_PX,
) -> TilePlan:
    """Lay the windows of a model over a region.

    Parameters
    ----------
    slide : Slide
    card : ModelCard
        Its ``window_px`` and ``mpp`` decide; without an mpp, 0.5 µm/px. On a slide whose scale is
        not known, window px are level-0 px.
    region : shapely geometry, optional
        Polygon(s) in level-0 px; None for the whole slide.
    shift : tuple of int
        Moves the grid by window px; what is found does not depend on it.
    least_margin : int
        Window px that a window reaches beyond its core at least; 0 where no object must fit in.

    Raises
    ------
    InputError
        If the region has no area on the slide.
    """
    whole = shapely.box(0, 0, slide.width, slide.height)
    part = whole if region is None else shapely.make_valid(region).intersection(whole)
    if part.area <= 0:
        raise InputError("That part has no area on the slide; choose a part of the tissue.")
    scale = base_scale(slide, card, None)
    size, margin, start, count = [], [], [], []
    bounds = part.bounds
    for axis, side in enumerate((slide.width, slide.height)):
        extent = math.ceil(side / scale[axis])
        own = min(card.window_px, extent)
        rim = 0 if own == extent else max(least_margin, round(card.window_px * MARGIN))
        rim = min(rim, (own - 1) // 2)
        step = own - 2 * rim
        # On the grid of window px that begins at the slide's corner, so that every plan reads the
        # same px.
        first = 0 if not rim else math.floor(bounds[axis] / scale[axis]) - shift[axis] % step
        last = math.ceil(bounds[axis + 2] / scale[axis])
        size.append(own)
        margin.append(rim)
        start.append(first)
        count.append(1 if not rim else max(1, math.ceil((last - first) / step)))
    return TilePlan(
        part,
        region is None or part.equals(whole),
        (slide.width, slide.height),
        scale,
        (size[0], size[1]),
        (margin[0], margin[1]),
        (start[0], start[1]),
        (count[0], count[1]),
    )


def key_of(slide: Slide, model: str, weights_hash: str, about: dict[str, Any]) -> str:
    """Return a hash of all that decides what a run gives."""
    data = [slide.identity, model, weights_hash, about]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
