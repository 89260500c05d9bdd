"""Small Qt pieces that several views share."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from napari_histosam.records import Colour


# napari's theme does not mark a checked tool button; which tool is on must be seen at a glance.
TOOL_STYLE = """
QToolButton { padding: 3px 7px; border-radius: 3px; }
QToolButton:hover { background: rgba(255, 255, 255, 30); }
QToolButton:checked { background: #2f6fd6; color: white; }
"""

# The one button that goes on.
PRIMARY_STYLE = """
QPushButton { background: #2f6fd6; color: white; padding: 4px 12px; font-weight: bold; }
QPushButton:hover { background: #3f80ea; }
QPushButton:disabled { background: #3a4150; color: #8b93a0; }
"""


def chip(colour: Colour, size: int = 14) -> QIcon:
    """Return a round icon in a class's colour."""
    pixmap = QPixmap(size * 2, size * 2)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(*colour))
    painter.setPen(QColor(255, 255, 255, 120))
    painter.drawEllipse(2, 2, size * 2 - 4, size * 2 - 4)
    painter.end()
    return QIcon(pixmap)


def button(text: str, tip: str, do: Callable[[], object]) -> QPushButton:
    """Return a push button that fits its text."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda _checked=False: do())
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return made


def choice(tip: str = "") -> QComboBox:
    """Return a list that takes what width there is, however long its entries are."""
    made = QComboBox()
    made.setToolTip(tip)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumContentsLength(8)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return made


def tool_button(text: str, tip: str, *, checkable: bool = False) -> QToolButton:
    """Return a flat button with text."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    made.setStyleSheet(TOOL_STYLE)
    return made


def label(text: str) -> QLabel:
    """Return a label that leaves the width to its neighbour."""
    made = QLabel(text)
    made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
    return made


def note(text: str = "") -> QLabel:
    """Return a label for explanations: wraps, selectable, a little dimmed."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setStyleSheet("color: #a8b0ba;")
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return made


def row(*widgets: QWidget, stretch: bool = False) -> QHBoxLayout:
    """Return widgets side by side; ``stretch`` pushes them to the left."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    if stretch:
        layout.addStretch(1)
    return layout


def number(value: float) -> str:
    """Return a whole number for people: thousands set apart."""
    return f"{value:,.0f}".replace(",", " ")


def micrometres2(area: float) -> str:
    """Return an area for people: µm² below a tenth of a mm², mm² above."""
    return f"{area / 1e6:.2f} mm²" if area >= 1e5 else f"{number(area)} µm²"


def dotted(colour: str, text: str) -> str:
    """Return a sentence with a coloured dot before it, as rich text."""
    return f'<span style="color:{colour}">●</span> {escape(text)}'
