"""Shows the labelled patches and the grid: a pixel per cell, and lines around the view only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_histosam.geometry.window import Window
from napari_histosam.viewer.layers import colormap
from napari_histosam.viewer.overlays import Overlay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Labels, Vectors
    from numpy.typing import NDArray

    from napari_histosam.geometry.grid import Cell, PatchGrid
    from napari_histosam.records import PatchKind
    from napari_histosam.viewer.frame import SlideFrame

# Told apart on pink tissue, also by the colour-blind.
TUMOUR, NORMAL = "#f97316", "#2563eb"
VALUES: Final[dict[str | None, int]] = {"tumour": 1, "normal": 2}
# While a line is drawn: what its cells will be.
_PENDING: Final[dict[str | None, int]] = {"tumour": 3, "normal": 4, None: 5}
_COLOURS = {
    1: (0.976, 0.451, 0.086, 0.42),
    2: (0.145, 0.388, 0.922, 0.34),
    3: (0.976, 0.451, 0.086, 0.75),
    4: (0.145, 0.388, 0.922, 0.70),
    5: (1.0, 1.0, 1.0, 0.60),
}
_LINE, _UNDER = (0.07, 0.09, 0.15, 0.45), (1.0, 1.0, 1.0, 1.0)
# Cells below so many screen px have no lines: they would hide the tissue.
LEAST_PX = 9.0


class PatchFill(Overlay):
    """The labelled cells, tinted: one pixel of the layer for each cell of the slide's grid."""

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        super().__init__(viewer, frame, lambda frame: _add_fill(viewer, frame))
        self._cells: NDArray[np.uint8] = np.zeros((1, 1), np.uint8)
        self._grid: PatchGrid | None = None

    def show(self, grid: PatchGrid, cells: NDArray[np.uint8]) -> None:
        """Show labels: ``cells`` (rows, columns) holds `VALUES`, 0 where there is none."""
        self._grid, self._cells = grid, cells
        self._place()

    def pend(self, cells: Iterable[Cell], kind: PatchKind | None) -> None:
        """Show what cells will be once the line that is being drawn has ended."""
        if self._grid is None:
            return
        shown = self._cells.copy()
        for column, row in cells:
            shown[row, column] = _PENDING[kind]
        self.layer().data = shown

    def set_frame(self, frame: SlideFrame) -> None:
        """Follow the slide to another place or scale."""
        super().set_frame(frame)
        if self.present:
            self._place()

    def _place(self) -> None:
        if self._grid is None:
            return
        layer: Labels = self.layer()
        rows, columns = self._cells.shape
        (w, h) = self._grid.side
        window = Window(w * columns / 2, h * rows / 2, (w, h), (columns, rows))
        place = self._frame.window_layer(window)
        layer.data = self._cells
        layer.scale, layer.translate = place["scale"], place["translate"]
        layer.editable = False


class PatchLines(Overlay):
    """The grid's lines around the view, and the frame of the cell under the pointer."""

    def __init__(self, viewer: ViewerModel, frame: SlideFrame) -> None:
        super().__init__(viewer, frame, lambda frame: _add_lines(viewer, frame))
        self._lines: NDArray[np.float64] = np.zeros((0, 2, 2))
        self._drawn: tuple[Any, ...] = ()

    def show(
        self,
        grid: PatchGrid,
        view: tuple[float, float, float, float],
        unit: float,
        under: Cell | None,
    ) -> None:
        """Draw them; ``view`` in level-0 px, ``unit`` is level-0 px per screen px."""
        left, top, right, bottom = view
        # Half a view more on each side, so that a short move needs nothing new.
        wide, high = (right - left) / 2, (bottom - top) / 2
        columns, rows = grid.seen(left - wide, top - high, right + wide, bottom + high)
        fine = min(grid.side) < LEAST_PX * unit
        wanted = (grid, () if fine else (columns, rows))
        if wanted != self._drawn:
            self._drawn = wanted
            self._lines = np.zeros((0, 2, 2)) if fine else _lines(grid, columns, rows)
        frame = np.zeros((0, 2, 2)) if under is None else _around(grid, under)
        layer: Vectors = self.layer()
        layer.data = np.concatenate([self._lines, frame])
        layer.edge_width = 1.5 * unit
        if len(layer.data):
            colours = [_LINE] * len(self._lines) + [_UNDER] * len(frame)
            layer.edge_color = np.asarray(colours, np.float32)


def _lines(grid: PatchGrid, columns: range, rows: range) -> NDArray[np.float64]:
    """Return the lines between cells as (n, 2, 2): start and way, y before x, pixel centres."""
    w, h = grid.side
    x = np.arange(columns.start, columns.stop + 1) * w - 0.5
    y = np.arange(rows.start, rows.stop + 1) * h - 0.5
    if len(x) < 2 or len(y) < 2:
        return np.zeros((0, 2, 2))
    found = np.zeros((len(x) + len(y), 2, 2))
    found[: len(x), 0] = np.stack([np.full(len(x), y[0]), x], 1)
    found[: len(x), 1, 0] = y[-1] - y[0]
    found[len(x) :, 0] = np.stack([y, np.full(len(y), x[0])], 1)
    found[len(x) :, 1, 1] = x[-1] - x[0]
    return found


def _around(grid: PatchGrid, cell: Cell) -> NDArray[np.float64]:
    x, y, w, h = grid.box(*cell)
    corners = np.array([[y, x], [y, x + w], [y + h, x + w], [y + h, x]]) - 0.5
    ways = np.roll(corners, -1, axis=0) - corners
    return np.stack([corners, ways], 1)


def _add_fill(viewer: ViewerModel, frame: SlideFrame) -> Labels:
    return viewer.add_labels(
        np.zeros((2, 2), np.uint8),
        name="Patch labels",
        opacity=1.0,
        colormap=colormap(_COLOURS),
        metadata={"histosam_overlay": "patches"},
        **frame.layer(),
    )


def _add_lines(viewer: ViewerModel, frame: SlideFrame) -> Vectors:
    return viewer.add_vectors(
        np.zeros((0, 2, 2)),
        ndim=2,
        name="Patch grid",
        vector_style="line",
        opacity=1.0,
        blending="translucent_no_depth",
        metadata={"histosam_overlay": "patch grid"},
        **frame.layer(),
    )
