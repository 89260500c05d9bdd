"""Labels of patches: how large they are, what the mouse paints, how many there are, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # qtpy gives it at run time
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QFileDialog,
    QInputDialog,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.exchange.patch_labels import UnclearClasses
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.patch_overlay import NORMAL, TUMOUR
from napari_histosam.viewer.tools import Tool
from napari_histosam.widgets.parts import button, chip, label, note, row, tool_button

if TYPE_CHECKING:
    from napari_histosam.records import PatchKind
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.patches import PatchWork

READABLE = "Patch labels or regions (*.csv *.geojson *.json);;All files (*)"
HOW = (
    "Click or drag over patches. Or point at one and press T (tumour), N (normal), Delete (clear). "
    "Shift clears, Esc ends, Ctrl+Z takes back."
)
TIPS: dict[PatchKind | None, str] = {
    "tumour": "Paint patches that hold any tumour, however little",
    "normal": "Paint patches without any tumour",
    None: "Clear the labels of patches",
}


class PatchBox(QWidget):
    """Labels patches of the slide at work."""

    said = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._controller: Controller | None = None
        self.side = QDoubleSpinBox()
        self.side.setRange(1.0, 100_000.0)
        self.side.setDecimals(1)
        self.side.setKeyboardTracking(False)
        self.side.setToolTip("Side of a patch. Labels of other sizes stay, but are not shown")
        self.buttons = {
            "tumour": tool_button("Tumour (T)", TIPS["tumour"], checkable=True),
            "normal": tool_button("Normal (N)", TIPS["normal"], checkable=True),
            None: tool_button("Clear", TIPS[None], checkable=True),
        }
        self.buttons["tumour"].setIcon(chip(_rgb(TUMOUR)))
        self.buttons["normal"].setIcon(chip(_rgb(NORMAL)))
        self._group = QButtonGroup(self)
        for kind, made in self.buttons.items():
            self._group.addButton(made)
            made.clicked.connect(lambda _checked=False, kind=kind: self._paint(kind))
        self.hint = note()
        self.draw = button("Draw region", "Draw a line around many patches", self._draw)
        self.region = {
            "tumour": button(
                "Region is tumour", "Label all patches in it", lambda: self._label_region("tumour")
            ),
            "normal": button(
                "Region is normal", "Label all patches in it", lambda: self._label_region("normal")
            ),
        }
        self.read = button("Import…", "A table of patches, or outlines with classes", self._ask_in)
        self.write = button("Export…", "All patch labels of this slide as CSV", self._ask_out)
        self.counts = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row(label("Patch size"), self.side, stretch=True))
        layout.addLayout(row(*self.buttons.values(), stretch=True))
        layout.addWidget(self.hint)
        layout.addLayout(row(self.draw, *self.region.values(), stretch=True))
        layout.addWidget(self.counts)
        layout.addLayout(row(self.read, self.write, stretch=True))
        self.side.valueChanged.connect(self._on_side)
        self.show_controller(None)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    @property
    def work(self) -> PatchWork | None:
        """The patches of the slide at work."""
        return None if self._controller is None else self._controller.patches

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.patches.changed.disconnect(self.refresh)
            self._controller.tool_changed.disconnect(self._on_tool)
            self._controller.region_changed.disconnect(self._on_tool)
            if not self._controller.closed:
                self._controller.patches.show(False)
        self._controller = controller
        if controller is not None:
            controller.patches.changed.connect(self.refresh)
            controller.tool_changed.connect(self._on_tool)
            controller.region_changed.connect(self._on_tool)
            controller.patches.show(self.isVisible())
        self.setEnabled(controller is not None)
        self.refresh()
        self._on_tool()

    def showEvent(self, event: Any) -> None:
        """Show the grid with the box."""
        super().showEvent(event)
        if self.work is not None:
            self.work.show(True)

    def hideEvent(self, event: Any) -> None:
        """Take the grid out with the box."""
        super().hideEvent(event)
        if self._controller is not None and not self._controller.closed:
            self._controller.patches.show(False)

    def refresh(self) -> None:
        """Show sizes and counts as they are now."""
        work = self.work
        if work is None:
            self.counts.setText("Open a slide to label its patches.")
            return
        was = self.side.blockSignals(True)
        self.side.setSuffix(f" {work.unit}")
        self.side.setValue(work.side)
        self.side.blockSignals(was)
        count, others = work.count, work.others
        text = f"This slide: {count.tumour} tumour, {count.normal} normal"
        if others:
            text += f" · {others} of other sizes"
        self.counts.setText(text)
        self.write.setEnabled(bool(count.tumour + count.normal + others))

    @told
    def _paint(self, kind: PatchKind | None) -> None:
        work = self.work
        if work is None:
            return
        if work.in_hand and work.kind == kind:
            work.end()
        else:
            work.begin(kind)

    def _on_tool(self, *_: Any) -> None:
        work, controller = self.work, self._controller
        on = work is not None and work.in_hand
        self._group.setExclusive(on)
        for kind, made in self.buttons.items():
            made.setChecked(on and work is not None and work.kind == kind)
        drawing = controller is not None and controller.tool is Tool.REGION
        drawn = controller is not None and controller.region is not None
        if drawing:
            self.hint.setText("Keep the mouse button down and draw a line around the region.")
        elif on:
            self.hint.setText(HOW)
        else:
            self.hint.setText("Choose what to paint, then click or drag over patches.")
        for named in self.region.values():
            named.setVisible(drawn)

    def _draw(self) -> None:
        if self._controller is not None:
            self._controller.set_tool(Tool.REGION)

    def _label_region(self, kind: PatchKind) -> None:
        if self.work is not None:
            self.work.label_region(kind)

    @told
    def _on_side(self, value: float) -> None:
        if self.work is not None:
            self.work.set_side(value)

    def _ask_in(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import patch labels", "", READABLE)
        if path:
            self.import_file(Path(path))

    @told
    def import_file(self, path: Path) -> None:
        """Take labels from a file; asks what its classes mean where their names do not say."""
        if self.work is None:
            return
        try:
            self.say(self.work.read(path))
        except UnclearClasses as error:
            named, sure = QInputDialog.getItem(
                self, "Import patch labels", "Which class means tumour?", error.names, 0, False
            )
            if not sure:
                raise
            self.say(self.work.read(path, {named: "tumour"}))

    def _ask_out(self) -> None:
        if self._controller is None:
            return
        start = f"{Path(self._controller.session.slide.name).stem}-patches.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Export patch labels", start, "CSV (*.csv)")
        if path:
            self.export_file(Path(path))

    @told
    def export_file(self, path: Path) -> None:
        """Write all labels of the slide."""
        if self.work is not None:
            self.say(self.work.write(path if path.suffix else path.with_suffix(".csv")))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
