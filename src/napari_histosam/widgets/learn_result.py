"""The end of a training: verdict, before and after, and what becomes of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    Qt,
    Signal,
)
from qtpy.QtWidgets import QGridLayout, QGroupBox, QLabel, QVBoxLayout, QWidget

from napari_histosam.widgets.learn_gallery import Gallery
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, dotted, note, row

if TYPE_CHECKING:
    from napari_histosam.viewer.learning.result import Result

VERDICTS = {"better": "#22c55e", "same": "#facc15", "worse": "#ef4444"}
GAIN, LOSS = "#22c55e", "#ef4444"
# Differences of less are not shown as gains or losses.
LEAST = 0.005
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class ResultBox(QGroupBox):
    """What came of a training, and the decision about it."""

    use_requested = Signal(str)
    keep_requested = Signal()
    back_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Result")
        self._result: Result | None = None
        self._asked = False
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.table = _Table()
        self.use = button("Use it", "Make it the model that answers, now and later", self._use)
        self.use.setStyleSheet(PRIMARY_STYLE)
        self.keep = button("Keep the old one", "Leave the model as it is", self.keep_requested.emit)
        self.back = button(
            "Go back", "Return to the model that was used before", self.back_requested.emit
        )
        self.decided = note()
        self.gallery = Gallery()
        layout = QVBoxLayout(self)
        layout.addWidget(self.verdict)
        layout.addWidget(self.table)
        layout.addLayout(row(self.use, self.keep, self.back, stretch=True))
        layout.addWidget(self.decided)
        layout.addWidget(self.gallery)

    def show_result(self, result: Result, decision: str, at_work: str, earlier: str | None) -> None:
        """Show a result.

        Parameters
        ----------
        result : Result
        decision : {"used", "kept", ""}
        at_work : str
            The model that is chosen now.
        earlier : str, optional
            The one that Go back would return to.
        """
        if self._result != result:
            self._asked = False
            self.gallery.show_changes(result.best, result.worst)
        self._result = result
        self.verdict.setText(dotted(VERDICTS[result.verdict], result.words))
        self.table.show_result(result)
        used = at_work == result.name
        self.use.setVisible(not used)
        self.use.setText("Use it anyway" if self._asked else "Use it")
        self.keep.setVisible(not used and decision != "kept")
        self.back.setVisible(earlier is not None)
        self.back.setToolTip(f"Return to {earlier}, which was used before")
        if used:
            self.decided.setText(f"{result.name} is the model that answers now.")
        elif self._asked:
            self.decided.setText(
                f"{result.name} is worse than {result.base} on the slides held out: use it anyway?"
            )
        elif decision == "kept":
            self.decided.setText(f"{at_work} was kept; {result.name} is in the list of models.")
        else:
            self.decided.setText(f"Now {at_work} answers; {result.name} is in the list of models.")

    def _use(self) -> None:
        result = self._result
        if result is None:
            return
        if result.verdict == "worse" and not self._asked:
            self._asked = True
            self.use.setText("Use it anyway")
            self.decided.setText(
                f"{result.name} is worse than {result.base} on the slides held out: use it anyway?"
            )
            return
        self.use_requested.emit(result.name)


class _Table(QWidget):
    """Figures before and after, one line per kind of prompt, or per measure."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 2, 0, 2)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(0, 1)
        self.cells: list[list[QLabel]] = []

    def show_result(self, result: Result) -> None:
        """Fill in the figures."""
        lines = [[result.heading, "Before", "After", "Change"]]
        for one in result.figures:
            gain = f"{one.gain:+.3f}".replace("-", "\N{MINUS SIGN}")
            colour = GAIN if one.gain >= LEAST else LOSS if one.gain <= -LEAST else ""
            shown = f'<span style="color:{colour}">{gain}</span>' if colour else gain
            lines.append([one.title, f"{one.before:.3f}", f"{one.after:.3f}", shown])
        slides = f"{result.n_groups} slide{'s' * (result.n_groups != 1)}"
        lines.append(["n", "", "", f"{result.n_counted} {result.counted}, {slides}"])
        while len(self.cells) < len(lines):
            self.cells.append([QLabel() for _ in lines[0]])
            for column, cell in enumerate(self.cells[-1]):
                if column:
                    cell.setAlignment(RIGHT)
                self._grid.addWidget(cell, len(self.cells) - 1, column)
        last = len(lines) - 1
        for number, (line, cells) in enumerate(zip(lines, self.cells, strict=True)):
            for cell, text in zip(cells, line, strict=True):
                cell.setText(text)
                cell.setStyleSheet("color: #a8b0ba;" if number in (0, last) else "")
        # The count is longer than a figure.
        for cell in self.cells[last][1:3]:
            cell.hide()
        self._grid.addWidget(self.cells[last][3], last, 1, 1, 3)
