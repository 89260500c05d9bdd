"""Plans the windows of one slide: every object whole in at least one, few windows, always alike."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.window import Window
from napari_histosam.train.dataset.scale import longer_side, margin_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from shapely import MultiPolygon, Polygon

    from napari_histosam.train.dataset.kinds import Marked
    from napari_histosam.train.dataset.scale import Scale

    Shape: TypeAlias = Polygon | MultiPolygon

# Steps of the grids as shares of a window's side: the wider, the fewer windows, but the smaller an
# object must be to be whole in one of them wherever it lies.
_STEPS = (7 / 8, 3 / 4, 1 / 2)
# Share of a background window that must be fully labelled.
_LABELLED = 0.5


@dataclass(frozen=True)
class Planned:
    """A window to be cut.

    Parameters
    ----------
    window : Window
    octave : int
        How often it is coarsened twofold.
    homes : tuple of int
        The objects, by their place in the list, for which it is the window to learn them from:
        they are whole in it. Each object has one such window.
    """

    window: Window
    octave: int
    homes: tuple[int, ...]


def plan(
    marked: Marked,
    size: tuple[int, int],
    mpp: tuple[float, float] | None,
    scale: Scale,
    side: int,
) -> list[Planned]:
    """Plan the windows with objects of one slide.

    Parameters
    ----------
    marked : Marked
    size : (int, int)
        Width and height of the slide in level-0 px.
    mpp : (float, float), optional
    scale : Scale
    side : int
        Of a window, in window px; less along an axis where the slide is smaller.

    Returns
    -------
    list of Planned
        Finest first, then by rows. They lie on grids that are fixed to the slide, and reach
        beyond the slide only where it is smaller than a window. Objects are taken largest first;
        one that is whole in a window already, with a margin, needs none of its own.
    """
    octaves: dict[int, list[int]] = {}
    for index, shape in enumerate(marked.shapes):
        octaves.setdefault(scale.octave(shape, mpp), []).append(index)
    fine = scale.of(mpp)
    planned: list[Planned] = []
    for octave, found in sorted(octaves.items()):
        grids = _Grids(_coarsened(fine, octave), size, side)
        steps = {index: grids.step_for(marked.shapes[index]) for index in found}
        places = {index: marked.shapes[index].bounds[1::-1] for index in found}
        for index in sorted(found, key=lambda at: (steps[at], places[at], marked.objects[at].id)):
            grids.take(index, marked.shapes[index], steps[index])
        planned += [
            Planned(window, octave, tuple(sorted(homes))) for window, homes in grids.chosen()
        ]
    return planned


def plan_background(
    marked: Marked,
    size: tuple[int, int],
    mpp: tuple[float, float] | None,
    scale: Scale,
    side: int,
    most: int,
    seed: str,
) -> list[Planned]:
    """Plan windows without objects, where regions say that there are none.

    Parameters
    ----------
    marked, size, mpp, scale, side
        As in `plan`.
    most : int
        How many at most.
    seed : str
        With a window's place it decides which of the candidates are taken, so that adding
        objects elsewhere does not change the choice.

    Returns
    -------
    list of Planned
        By rows; at least half of each is fully labelled, and no object or unknown area meets it.
    """
    if not marked.regions or most < 1:
        return []
    octave = scale.first_octave(mpp)
    grids = _Grids(_coarsened(scale.of(mpp), octave), size, side)
    known = shapely.union_all(np.asarray(marked.regions, object))
    if marked.unknown:
        known = known.difference(shapely.union_all(np.asarray(marked.unknown, object)))
    tree = shapely.STRtree([*marked.shapes, *marked.unknown])
    cells: dict[tuple[int, int], Window] = {}
    for region in marked.regions:
        cells.update(grids.cells(region))
    ranked = []
    for key, window in cells.items():
        box = shapely.box(*window.bounds)
        if known.intersection(box).area < _LABELLED * box.area:
            continue
        if len(tree.query(box, predicate="intersects")):
            continue
        draw = hashlib.sha256(f"{seed}:{key[0]}:{key[1]}".encode()).digest()
        ranked.append((draw, key[::-1], window))
    taken = sorted((key, window) for _, key, window in sorted(ranked, key=_draw_of)[:most])
    return [Planned(window, octave, ()) for _, window in taken]


def _draw_of(entry: tuple[bytes, tuple[int, int], Window]) -> tuple[bytes, tuple[int, int]]:
    return entry[0], entry[1]


def _coarsened(scale: tuple[float, float], octave: int) -> tuple[float, float]:
    return scale[0] * 2.0**octave, scale[1] * 2.0**octave


@dataclass
class _Grids:
    """Windows at one scale, on grids of several steps.

    Lengths are in window px, counted from the slide's upper left corner. Steps are numbered by
    `_STEPS` from the back: 0 stands for windows centred on their object.
    """

    scale: tuple[float, float]
    size: tuple[int, int]
    side: int
    _homes: dict[tuple[float, float], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._extent = (self.size[0] / self.scale[0], self.size[1] / self.scale[1])
        self._span = tuple(min(self.side, max(1, math.ceil(e - 1e-6))) for e in self._extent)
        self._margin = margin_of(self.side)

    def step_for(self, shape: Shape) -> int:
        """Return the number of the widest grid that has a window for an object anywhere."""
        need = longer_side(shape, self.scale) + 2 * self._margin
        for number, share in zip((3, 2, 1), _STEPS, strict=True):
            if need <= self.side - int(self.side * share):
                return number
        return 0

    def take(self, index: int, shape: Shape, step: int) -> None:
        """See to it that an object is whole in a window, an old one if there is one."""
        x_span, y_span = self._spans(shape)
        for number in (1, 2, 3):
            columns = list(self._starts(0, *x_span, number))
            for y in self._starts(1, *y_span, number):
                for x in columns:
                    if (x, y) in self._homes:
                        self._homes[x, y].append(index)
                        return
        place = (self._last(0, x_span, step), self._last(1, y_span, step))
        self._homes.setdefault(place, []).append(index)

    def chosen(self) -> Iterator[tuple[Window, list[int]]]:
        """Yield the windows by rows, each with the objects that it is the home of."""
        for x, y in sorted(self._homes, key=lambda at: (at[1], at[0])):
            yield self._window(x, y), self._homes[x, y]

    def cells(self, region: Shape) -> Iterator[tuple[tuple[int, int], Window]]:
        """Yield the windows of the grid without overlap that meet a region's box."""
        left, top, right, bottom = region.bounds
        columns = self._cell_range(0, left, right)
        rows = self._cell_range(1, top, bottom)
        for row in rows:
            for column in columns:
                x, y = (self._start(0, column * self.side), self._start(1, row * self.side))
                yield (column, row), self._window(x, y)

    def _cell_range(self, axis: int, low: float, high: float) -> range:
        last = max(0, math.ceil(self._extent[axis] / self.side) - 1)
        first = int(low / self.scale[axis] // self.side)
        end = int(high / self.scale[axis] // self.side)
        return range(min(first, last), min(end, last) + 1)

    def _spans(self, shape: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return from where to where along x and y an object reaches, with its margin."""
        left, top, right, bottom = shape.bounds
        reach = []
        for axis, (low, high) in enumerate(((left, right), (top, bottom))):
            start = max(low / self.scale[axis] - self._margin, 0.0)
            end = min(high / self.scale[axis] + self._margin, self._extent[axis])
            reach.append((start, end))
        return reach[0], reach[1]

    def _starts(self, axis: int, low: float, high: float, number: int) -> Iterator[float]:
        """Yield where along an axis windows of a grid begin that hold a span, leftmost first."""
        step = int(self.side * _STEPS[3 - number])
        span = self._span[axis]
        first = max(0, math.ceil((high - span) / step - 1e-9))
        seen = None
        for k in range(first, max(first, int(low // step)) + 1):
            start = self._start(axis, k * step)
            if start <= low + 1e-6 and start + span >= high - 1e-6 and start != seen:
                yield start
                seen = start

    def _last(self, axis: int, span: tuple[float, float], number: int) -> float:
        """Return where the last window of a grid begins that holds a span, or a centred one."""
        starts = list(self._starts(axis, *span, number)) if number else []
        if starts:
            return starts[-1]
        return self._start(axis, round((span[0] + span[1]) / 2 - self._span[axis] / 2))

    def _start(self, axis: int, wish: float) -> float:
        """Keep a window on the slide."""
        return float(min(max(wish, 0), max(self._extent[axis] - self._span[axis], 0.0)))

    def _window(self, x: float, y: float) -> Window:
        w, h = self._span
        centre = ((x + w / 2) * self.scale[0], (y + h / 2) * self.scale[1])
        return Window(*centre, self.scale, (w, h))
