"""A plain plot of lines: two axes, a faint grid, no menus, nothing to drag."""

from __future__ import annotations

import pyqtgraph
from qtpy.QtWidgets import QSizePolicy

HEIGHT, LEFT, BELOW = 132, 44, 42
GRID, INK = 40, "#a8b0ba"


class Plot(pyqtgraph.GraphicsLayoutWidget):
    """A plot whose y axis follows its lines.

    Parameters
    ----------
    bottom : str
        Title of the x axis; empty for none.

    Notes
    -----
    Made of pyqtgraph's parts, since its ready-made plot brings menus along that outlive a window.
    """

    def __init__(self, bottom: str = "") -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(HEIGHT + 22 * bool(bottom))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.ci.setContentsMargins(0, 2, 6, 0)
        self.ci.setSpacing(0)
        self._box = pyqtgraph.ViewBox(enableMenu=False, enableMouse=False)
        self._box.enableAutoRange(axis=pyqtgraph.ViewBox.YAxis)
        left, below = (pyqtgraph.AxisItem(side, linkView=self._box) for side in ("left", "bottom"))
        for axis in (left, below):
            axis.setPen(INK)
            axis.setTextPen(INK)
            axis.setGrid(GRID)
        left.setWidth(LEFT)
        if bottom:
            below.setLabel(bottom, color=INK)
            # Left to itself it cuts off what letters have below the line.
            below.setHeight(BELOW)
        self.addItem(left, 0, 0)
        self.addItem(self._box, 0, 1)
        self.addItem(below, 1, 1)

    def line(self, colour: str) -> pyqtgraph.PlotDataItem:
        """Return a new line with dots, without points as yet."""
        made = pyqtgraph.PlotDataItem(
            pen=pyqtgraph.mkPen(colour, width=2),
            symbol="o",
            symbolSize=5,
            symbolPen=None,
            symbolBrush=colour,
        )
        self._box.addItem(made)
        return made

    def show_until(self, x: float) -> None:
        """Show the x axis from 0 to ``x``."""
        self._box.setXRange(0, x, padding=0.03)
