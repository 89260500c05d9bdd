"""The curves of a training: the loss, and how good the masks are on the slides held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_histosam.widgets.parts import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_histosam.viewer.learning.follow import Snapshot

LOSS = "#e0a33e"
PROMPTED = {
    "val_click1": ("1 click", "#4c9be8"),
    "val_click3": ("3 clicks", "#35c48d"),
    "val_box": ("Box", "#c08bf0"),
}
ALONE = {
    "val_ap50": ("AP50", "#4c9be8"),
    "val_dice_all": ("Dice, ground too", "#35c48d"),
    "val_iou": ("mean IoU", "#c08bf0"),
}
"""The same of models that find objects or regions without prompts."""


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
        self.titles = [
            note(f'<span style="color:{LOSS}">▬</span> Loss, on the slides trained on'),
            note(),
        ]
        for title in self.titles:
            plot = Plot("epoch" if self._plots else "")
            layout.addWidget(title)
            layout.addWidget(plot)
            self._plots.append(plot)
        self.lines["loss"] = self._plots[0].line(LOSS)
        for key, (_title, colour) in {**PROMPTED, **ALONE}.items():
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
        held_out = self._held_out(shown.epochs)
        for key in (*PROMPTED, *ALONE):
            points = _points(shown.epochs, key) if key in held_out else []
            self.lines[key].setData(*_apart(points))
        reached = max((x for x, _ in losses), default=0.0)
        for plot in self._plots:
            plot.show_until(max(min(epochs, reached * 1.6), 1.0))

    def _held_out(self, epochs: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
        """Return the lines of the second plot, and name them above it."""
        alone = bool(epochs) and "val_click1" not in epochs[0]
        known = ALONE if alone else PROMPTED
        lines = {k: v for k, v in known.items() if not alone or epochs[0].get(k) is not None}
        legend = " &nbsp; ".join(
            f'<span style="color:{colour}">▬</span> {title}' for title, colour in lines.values()
        )
        self.titles[1].setText(f"Held out: {legend}" if alone else f"IoU, held out: {legend}")
        return lines


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
