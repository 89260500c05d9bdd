"""The curves of a training: the loss, and how good the masks are on the slides held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_histosam.widgets.parts import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_histosam.viewer.learning.follow import Snapshot

LOSS = "#e0a33e"
HELD_OUT = {
    "val_click1": ("1 click", "#4c9be8"),
    "val_click3": ("3 clicks", "#35c48d"),
    "val_box": ("Box", "#c08bf0"),
}


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
            from napari_histosam.widgets.learn_plot import Plot
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
            plot = Plot("epoch" if self._plots else "")
            layout.addWidget(title)
            layout.addWidget(plot)
            self._plots.append(plot)
        self.lines["loss"] = self._plots[0].line(LOSS)
        for key, (_title, colour) in HELD_OUT.items():
            self.lines[key] = self._plots[1].line(colour)

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
            plot.show_until(max(min(epochs, reached * 1.6), 1.0))


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
