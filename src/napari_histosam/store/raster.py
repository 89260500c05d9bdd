"""The objects of a store as a lazy pyramid of label tiles for display."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_histosam.store.box_index import BoxIndex
from napari_histosam.store.classes import UNCLASSIFIED_COLOUR
from napari_histosam.store.painting import Frame, blocks, paint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.store.box_index import Hits
    from napari_histosam.store.edits import Bounds
    from napari_histosam.store.store import ObjectStore

SELECTED_FILL: Final = 1
SELECTED_OUTLINE: Final = 2
LAST_CLASS: Final = 125
"""Classes with this number or a higher one share a value, so that all values fit uint8."""

_SELECTED_COLOUR = (1.0, 1.0, 0.0)
_FILL_ALPHA = 0.3
_DOT_PX = 3.0  # what is smaller is painted as a small block, from its box alone
_POINT_SIZE = 20.0  # level-0 px that a point stands for …
_POINT_PX = 5.0  # … and the most px it takes on the canvas
_BORDER = 32
_MARGIN_PX = 3.0  # how far an outline or a point's block reaches beyond its object's box


def fill_value(class_number: int) -> int:
    """Return the value of pixels inside objects of a class (0: no class)."""
    return 3 + 2 * min(class_number, LAST_CLASS)


def outline_value(class_number: int) -> int:
    """Return the value of outlines, and of dots, of objects of a class (0: no class)."""
    return 4 + 2 * min(class_number, LAST_CLASS)


class ObjectRaster:
    """Label tiles of a store, painted when asked for; safe to read from many threads.

    Values: 0 nothing; 1 and 2 fill and outline of selected objects; 3 + 2k and 4 + 2k fill and
    outline of objects of class number k (0: unclassified). So one colour table shows fills faint
    and outlines strong, and touching objects of one class stay apart.

    Parameters
    ----------
    store : ObjectStore
    shapes : sequence of (h, w)
        Size of each level in px.
    scales : sequence of (sx, sy)
        Level-0 px per px of each level, along x and y.
    tile : int
        Side of a tile in px.

    Notes
    -----
    Larger objects are painted first, so that nested ones show; selected ones last. Objects of
    less than 3 px are painted from their boxes, at least one px each, so that they do not vanish.
    The raster hears of edits itself, ahead of callbacks connected to ``store.changed`` later.
    """

    def __init__(
        self,
        store: ObjectStore,
        shapes: Sequence[tuple[int, int]],
        scales: Sequence[tuple[float, float]],
        tile: int = 512,
    ) -> None:
        if len(shapes) != len(scales):
            raise ValueError(f"{len(shapes)} shapes do not go with {len(scales)} scales")
        self.shapes = [(int(h), int(w)) for h, w in shapes]
        self.scales = [(float(sx), float(sy)) for sx, sy in scales]
        self.tile = tile
        self._store = store
        self._index = BoxIndex(store)
        self._selected: frozenset[str] = frozenset()
        self._hidden: frozenset[str] = frozenset()

    @property
    def selected(self) -> frozenset[str]:
        """Ids of the objects shown as selected; assign a new set to change it."""
        return self._selected

    @selected.setter
    def selected(self, ids: Iterable[str]) -> None:
        self._selected = frozenset(ids)

    @property
    def hidden(self) -> frozenset[str]:
        """Ids of the objects left out (one that is being edited); assign a new set to change it."""
        return self._hidden

    @hidden.setter
    def hidden(self, ids: Iterable[str]) -> None:
        self._hidden = frozenset(ids)

    def grid(self, level: int) -> tuple[int, int]:
        """Return the number of tile rows and columns of a level."""
        h, w = self.shapes[level]
        return math.ceil(h / self.tile), math.ceil(w / self.tile)

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """Paint one tile.

        Returns
        -------
        (h, w) uint8 array
            ``tile`` px each way, less at the right and bottom edge of the level.
        """
        height, width = self.shapes[level]
        top, left = row * self.tile, col * self.tile
        canvas = np.zeros((min(self.tile, height - top), min(self.tile, width - left)), np.uint8)
        scale = self.scales[level]
        bounds = (
            (left - _MARGIN_PX) * scale[0],
            (top - _MARGIN_PX) * scale[1],
            (left + canvas.shape[1] + _MARGIN_PX) * scale[0],
            (top + canvas.shape[0] + _MARGIN_PX) * scale[1],
        )
        hits = self._index.within(bounds, self._selected, self._hidden)
        if not len(hits.numbers):
            return canvas
        # cv2 shifts a line by up to a px where it cuts it at the border: let that be out of sight.
        wide = np.pad(canvas, _BORDER)
        frame = Frame(left - _BORDER, top - _BORDER, scale)
        for chosen in (False, True):
            part = np.flatnonzero(hits.selected == chosen)
            if len(part):
                self._paint(wide, frame, hits, part, chosen)
        return wide[_BORDER:-_BORDER, _BORDER:-_BORDER].copy()

    def touched(self, bounds: Iterable[Bounds]) -> list[tuple[int, int, int]]:
        """Return (level, row, column) of the tiles that rectangles in level-0 px can show on."""
        found: set[tuple[int, int, int]] = set()
        for x0, y0, x1, y1 in bounds:
            for level, (sx, sy) in enumerate(self.scales):
                rows, cols = self.grid(level)
                first_row, last_row = self._tiles(y0 / sy, y1 / sy, rows)
                first_col, last_col = self._tiles(x0 / sx, x1 / sx, cols)
                found.update(
                    (level, row, col)
                    for row in range(first_row, last_row + 1)
                    for col in range(first_col, last_col + 1)
                )
        return sorted(found)

    def bounds_of(self, ids: Iterable[str]) -> list[Bounds]:
        """Return the bounds (level-0 px) of objects, for `touched` after selecting or hiding."""
        return self._index.bounds_of(ids)

    def colours(self) -> dict[int, tuple[float, float, float, float]]:
        """Return value → RGBA from 0 to 1 for all values that tiles can hold now."""
        table = {
            0: (0.0, 0.0, 0.0, 0.0),
            SELECTED_FILL: (*_SELECTED_COLOUR, _FILL_ALPHA),
            SELECTED_OUTLINE: (*_SELECTED_COLOUR, 1.0),
        }
        colours = {0: UNCLASSIFIED_COLOUR}
        colours.update((k, item.colour) for k, item in self._store.class_numbers().items())
        for k in sorted(colours, reverse=True):  # the lowest number that shares a value wins
            red, green, blue = (part / 255 for part in colours[k])
            table[fill_value(k)] = (red, green, blue, _FILL_ALPHA)
            table[outline_value(k)] = (red, green, blue, 1.0)
        return table

    def _tiles(self, start: float, end: float, count: int) -> tuple[int, int]:
        first = math.floor((start - _MARGIN_PX) / self.tile)
        last = math.floor((end + _MARGIN_PX) / self.tile)
        return max(first, 0), min(last, count - 1)

    def _paint(
        self,
        canvas: NDArray[np.uint8],
        frame: Frame,
        hits: Hits,
        part: NDArray[np.int64],
        selected: bool,
    ) -> None:
        sizes = (hits.bounds[part, 2:] - hits.bounds[part, :2]) / frame.scale
        order = np.lexsort((hits.numbers[part], -sizes.prod(axis=1)))
        part, sizes = part[order], sizes[order]
        classes = np.minimum(hits.classes[part], LAST_CLASS)
        fills = np.full(len(part), SELECTED_FILL) if selected else 3 + 2 * classes
        lines = fills + 1
        mark = min(_POINT_PX, _POINT_SIZE / max(frame.scale))
        large = sizes.max(axis=1) >= _DOT_PX
        if large.any():
            geometries = self._store.geometries(hits.numbers[part[large]].tolist())
            paint(canvas, geometries, fills[large].tolist(), lines[large].tolist(), frame, mark)
        small = ~large
        if small.any():
            boxes = hits.bounds[part[small]]
            centres = frame.to_canvas((boxes[:, :2] + boxes[:, 2:]) / 2)
            spans = sizes[small]
            spans[(spans == 0).all(axis=1)] = mark
            blocks(canvas, centres, spans, lines[small].astype(np.uint8))
