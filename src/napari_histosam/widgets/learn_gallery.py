"""Objects whose masks changed most: before and after, with the true outline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_histosam.widgets.parts import note

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.viewer.learning.result import Change

SIDE = 76
COLUMNS = 2
# As the pictures are drawn, see `train.evaluation.gallery`.
TRUTH, BEFORE, AFTER = "#14d75a", "#ff8c00", "#1e64ff"


class Gallery(QWidget):
    """The best and the worst changes, a pair of pictures each."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 4, 0, 0)
        self._layout.setSpacing(4)
        self.pairs: list[QWidget] = []
        self._parts: list[QWidget] = []

    def show_changes(self, best: tuple[Change, ...], worst: tuple[Change, ...]) -> None:
        """Show other changes."""
        for part in self._parts:
            part.hide()
            part.deleteLater()
        self._parts, self.pairs = [], []
        if best or worst:
            self._add(
                note(
                    "Outlines: "
                    f'<span style="color:{TRUTH}">▬</span> yours &nbsp; '
                    f'<span style="color:{BEFORE}">▬</span> before &nbsp; '
                    f'<span style="color:{AFTER}">▬</span> after'
                )
            )
        for title, changes in (("Improved most", best), ("Worsened most", worst)):
            if changes:
                self._add(QLabel(title))
                self._add(self._rows(changes))
        self.setVisible(bool(best or worst))

    def _add(self, part: QWidget) -> None:
        self._layout.addWidget(part)
        self._parts.append(part)

    def _rows(self, changes: tuple[Change, ...]) -> QWidget:
        made = QWidget()
        grid = QGridLayout(made)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(6)
        for number, change in enumerate(changes):
            pair = _pair(change)
            self.pairs.append(pair)
            grid.addWidget(pair, *divmod(number, COLUMNS))
        grid.setColumnStretch(COLUMNS, 1)
        return made


def _pair(change: Change) -> QWidget:
    made = QWidget()
    layout = QVBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(1)
    pictures = QHBoxLayout()
    pictures.setSpacing(2)
    for path, tip in ((change.before, "Before"), (change.after, "After")):
        pictures.addWidget(_picture(path, tip))
    layout.addLayout(pictures)
    layout.addWidget(note(change.caption))
    return made


def _picture(path: Path, tip: str) -> QLabel:
    made = QLabel()
    made.setFixedSize(SIDE, SIDE)
    made.setToolTip(tip)
    ratio = made.devicePixelRatioF()
    found = QPixmap(str(path))
    if not found.isNull():
        side = round(SIDE * ratio)
        found = found.scaled(
            side,
            side,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        found.setDevicePixelRatio(ratio)
        made.setPixmap(found)
    return made
