"""The tools of the left mouse button, and the brush's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QLabel, QSlider, QVBoxLayout, QWidget

from napari_histosam.viewer.keys import TOOL_KEYS
from napari_histosam.viewer.tools import Tool
from napari_histosam.widgets.parts import note, row, tool_button

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

    from napari_histosam.viewer.controller import Controller

HINTS = {
    Tool.CLICK: "Click inside an object. Shift+click takes away. Drag for a box.",
    Tool.BOX: "Drag a box tightly around an object.",
    Tool.SCRIBBLE: "Draw over the object. With Shift, over what is not part of it.",
    Tool.BRUSH: "Paint on the mask or the selected object. With Shift, erase.",
    Tool.CUT: "Draw a line right across the selected object.",
    Tool.PAN: "Drag to move. Click an object to select it, Shift+click for several.",
}
# Chosen elsewhere, so that these have no button here.
ELSEWHERE = {
    Tool.REGION: "Keep the button down and draw a line around the region.",
    Tool.PATCH: "Click or drag over patches to label them. With Shift, clear them.",
}
EVERYWHERE = " Hold Space or the middle button to move, scroll to zoom."


class ToolBar(QWidget):
    """One button per tool, a hint, and the brush's slider while the brush is chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._controller: Controller | None = None
        self._group = QButtonGroup(self)
        self.buttons = {}
        keys = {tool: key for key, tool in TOOL_KEYS.items()}
        for tool in HINTS:
            key = f" ({keys[tool]})" if tool in keys else ""
            made = tool_button(f"{tool.value}{key}", HINTS[tool], checkable=True)
            made.clicked.connect(lambda _c=False, tool=tool: self._choose(tool))
            self._group.addButton(made)
            self.buttons[tool] = made
        self.hint = note()
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setRange(2, 100)
        self.brush.setValue(12)
        self.brush.setToolTip("Brush radius in screen pixels")
        self.brush.valueChanged.connect(self._resize_brush)
        self.brush_row = QWidget()
        self.brush_row.setLayout(row(QLabel("Brush size"), self.brush))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row(*list(self.buttons.values())[:3], stretch=True))
        layout.addLayout(row(*list(self.buttons.values())[3:], stretch=True))
        layout.addWidget(self.brush_row)
        layout.addWidget(self.hint)
        self.show_controller(None)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.tool_changed.disconnect(self._mark)
        self._controller = controller
        self.setEnabled(controller is not None)
        if controller is not None:
            controller.tool_changed.connect(self._mark)
            controller.brush_px = float(self.brush.value())
        self._mark(controller.tool if controller else Tool.CLICK)

    def showEvent(self, event: QShowEvent) -> None:
        """Show the brush as it is; another tool bar may have changed it."""
        super().showEvent(event)
        if self._controller is not None:
            self.brush.setValue(round(self._controller.brush_px))

    def _choose(self, tool: Tool) -> None:
        if self._controller is not None:
            self._controller.set_tool(tool)

    def _mark(self, tool: Tool) -> None:
        self._group.setExclusive(tool in self.buttons)
        for known, made in self.buttons.items():
            made.setChecked(known is tool)
        self.brush_row.setVisible(tool is Tool.BRUSH)
        hint = (HINTS | ELSEWHERE)[tool]
        self.hint.setText(hint + ("" if tool is Tool.PAN else EVERYWHERE))

    def _resize_brush(self, value: int) -> None:
        if self._controller is not None:
            self._controller.brush_px = float(value)
