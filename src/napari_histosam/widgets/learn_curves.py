"""The curves of a training: the loss, and how good the masks are on the slides held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_histosam.widgets.parts import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_histosam.viewer.learning.follow import Snapshot

HEIGHT = 132
LOSS = "#e0a33e"
HELD_OUT = {
    "val_click1": ("1 click", "#4c9be8"),
    "val_click3": ("3 clicks", "#35c48d"),
    "val_box": ("Box", "#c08bf0"),
}
GRID, INK = 0.12, "#a8b0ba"


class Curves(QWidget):
    """Two plots over the epochs, one above the other."""

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.lines: dict[str, Any] = {}
        self._plots: list[Any] = []
        try:
            import pyqtgraph
        except ImportError:
            layout.addWidget(note("Install pyqtgraph to see curves here."))
            return
        legend = " &nbsp; ".join(
            f'<span style="color:{colour}">▬</span> {title}' for title, colour in HELD_OUT.values()
        )
        self.titles = [
            note(f'<span style="color:{LOSS}">▬</span> Loss, on the slides trained on'),
            note(f"IoU, held out: {legend}"),
        ]
        for title in self.titles:
            plot = pyqtgraph.PlotWidget(background=None)
            plot.setFixedHeight(HEIGHT)
            plot.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            plot.setMenuEnabled(False)
            plot.hideButtons()
            plot.setMouseEnabled(x=False, y=False)
            plot.showGrid(x=True, y=True, alpha=GRID)
            for side in ("left", "bottom"):
                axis = plot.getAxis(side)
                axis.setPen(INK)
                axis.setTextPen(INK)
            plot.getAxis("left").setWidth(44)
            layout.addWidget(title)
            layout.addWidget(plot)
            self._plots.append(plot)
        self._plots[1].setLabel("bottom", "epoch", color=INK)
        dots = {"symbol": "o", "symbolSize": 5, "symbolPen": None}
        self.lines["loss"] = self._plots[0].plot(
            [], [], pen=pyqtgraph.mkPen(LOSS, width=2), symbolBrush=LOSS, **dots
        )
        for key, (_title, colour) in HELD_OUT.items():
            pen = pyqtgraph.mkPen(colour, width=2)
            self.lines[key] = self._plots[1].plot([], [], pen=pen, symbolBrush=colour, **dots)

    def show_run(self, shown: Snapshot, epochs: int) -> None:
        """Draw a training's curves; ``epochs`` is how many there will be at most."""
        if not self._plots:
            return
        losses = _points(shown.epochs, "loss")
        if len(losses) < 3:
            # Of a training that has just begun, each reported step counts.
            steps = dict(_points(shown.steps, "loss", epochs))
            losses = sorted({**steps, **dict(losses)}.items())
        self.lines["loss"].setData(*_apart(losses))
        for key in HELD_OUT:
            self.lines[key].setData(*_apart(_points(shown.epochs, key)))
        reached = max((x for x, _ in losses), default=0.0)
        for plot in self._plots:
            plot.setXRange(0, max(min(epochs, reached * 1.6), 1.0), padding=0.03)


def _points(
    rows: Iterable[dict[str, Any]], key: str, epochs: int | None = None
) -> list[tuple[float, float]]:
    """Return (epoch, value) of the rows that have the value.

    With ``epochs``, how many there will be, the rows are steps, which lie between the epochs.
    """
    found = []
    for row in rows:
        value = row.get(key)
        if value is not None:
            at = row["epoch"] if epochs is None else row["step"] / row["steps"] * epochs
            found.append((float(at), float(value)))
    return found


def _apart(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
