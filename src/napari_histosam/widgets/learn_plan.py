"""What to train: the base, the method, how long; what it will take; the start."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    Qt,
    Signal,
)
from qtpy.QtWidgets import QFormLayout, QGroupBox, QSpinBox, QVBoxLayout

from napari_histosam.viewer.learning.measuring import Trouble
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, choice, dotted, note, row

if TYPE_CHECKING:
    from napari_histosam.viewer.learning.bases import Base
    from napari_histosam.viewer.learning.desk import Desk
    from napari_histosam.viewer.learning.estimate import Estimate
    from napari_histosam.viewer.learning.patch_bases import PatchBase

EPOCHS = 20
BAD, DOUBT = "#ef4444", "#facc15"
PATCHES = "Finds tumour areas; learns from labels of patches, without outlines"
DETAILS, QUICK = (512, 256, 128, 64), 256
DETAIL_TIP = "How finely the network sees a patch. Half as many px take about a quarter of the time"
MEASURING = "Measuring time and memory in a short trial…"
BEGINNING = "the model to begin with; it stays as it is"
TIP = Qt.ItemDataRole.ToolTipRole


class PlanBox(QGroupBox):
    """What to train and how.

    Parameters
    ----------
    desk : Desk
    """

    start_requested = Signal(str, str, int)
    patches_chosen = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__("What to train")
        self._desk = desk
        self._filling = False
        self.base = choice(BEGINNING)
        self.method = choice("How much of the network learns")
        self.detail = choice(DETAIL_TIP)
        self.epochs = QSpinBox()
        self.epochs.setRange(1, 500)
        self.epochs.setValue(EPOCHS)
        self.epochs.setToolTip("How often each window is looked at, at most")
        self.takes = note()
        self.lacking = note()
        self.lacking.hide()
        self.start = button(
            "Start training", "Trains beside the window; work on meanwhile", self._go
        )
        self.start.setStyleSheet(PRIMARY_STYLE)
        form = self._form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Base model", self.base)
        form.addRow("Method", self.method)
        form.addRow("Detail", self.detail)
        form.addRow("Epochs", self.epochs)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.lacking)
        layout.addWidget(self.takes)
        layout.addLayout(row(self.start, stretch=True))
        self.base.currentIndexChanged.connect(self._on_base)
        self.method.currentIndexChanged.connect(self._show_estimate)
        self.epochs.valueChanged.connect(self._show_estimate)
        desk.bases_changed.connect(self.refresh)
        desk.costs_changed.connect(self._show_estimate)
        desk.shelf.changed.connect(self._show_estimate)
        self.refresh()

    def refresh(self) -> None:
        """List the models again."""
        self._filling = True
        wanted = self.base.currentData() or self._desk.workbench.model
        self.base.clear()
        for one in self._desk.bases:
            self.base.addItem(one.card.name, one.card.name)
        for patches in self._desk.patch_bases:
            # Their names cannot be those of the others, since a model learns in one way only.
            self.base.addItem(patches.title, patches.key)
            self.base.setItemData(self.base.count() - 1, PATCHES, TIP)
        self.base.setCurrentIndex(max(0, self.base.findData(wanted)))
        self._filling = False
        self._on_base()

    @property
    def chosen(self) -> Base | None:
        """The base that is chosen; None before the models are known."""
        name = self.base.currentData()
        return next((one for one in self._desk.bases if one.card.name == name), None)

    @property
    def patches(self) -> PatchBase | None:
        """The base that is chosen, if it learns from patch labels."""
        key = self.base.currentData()
        return next((one for one in self._desk.patch_bases if one.key == key), None)

    def _on_base(self, *_: int) -> None:
        if self._filling:
            return
        # Long names do not fit into a narrow dock.
        self.base.setToolTip(f"{self.base.currentText()}: {BEGINNING}")
        self._filling = True
        by_patches = self.patches is not None
        self._form.setRowVisible(self.method, not by_patches)
        self._form.setRowVisible(self.detail, by_patches)
        self._list_details()
        self.takes.setVisible(not by_patches)
        self.start.setVisible(not by_patches)
        wanted, one = self.method.currentData(), self.chosen
        self.method.clear()
        for method in () if one is None else one.methods:
            assert one is not None
            title, explanation = one.said(method)
            self.method.addItem(title, method)
            self.method.setItemData(self.method.count() - 1, explanation, TIP)
        self.method.setCurrentIndex(max(0, self.method.findData(wanted)))
        self._filling = False
        self.patches_chosen.emit(self.patches)
        self._show_estimate()

    def _list_details(self) -> None:
        base, wanted = self.patches, self.detail.currentData()
        self.detail.clear()
        if base is None:
            return
        for px in sorted({*DETAILS, base.size}, reverse=True):
            hint = " · quicker" if px < base.size else ""
            self.detail.addItem(f"{px} px a patch{hint}", px)
        # A model that has learned keeps to what it knows; a new one begins quick enough for a CPU.
        usual = base.size if base.model else QUICK
        self.detail.setCurrentIndex(max(0, self.detail.findData(wanted or usual)))

    def _show_estimate(self, *_: int) -> None:
        if self._filling or self.patches is not None:
            return
        one, enough = self.chosen, self._desk.shelf.advice.enough
        lacking = None if one is None or not enough else self._desk.lacks(one)
        self.lacking.setVisible(lacking is not None)
        if lacking is not None:
            self.lacking.setText(dotted(DOUBT if lacking.enough else BAD, lacking.text))
            enough = lacking.enough
        self.start.setEnabled(one is not None and enough)
        if one is None:
            self.takes.setText("Looking for models that can be trained…")
        elif lacking is not None and not enough:
            self.takes.setText("")
        elif not enough:
            self.takes.setText("Time and memory are measured once there are two slides.")
        elif not self.isVisible():
            # Nobody asks; and to measure keeps the machine busy.
            self.takes.setText("")
        else:
            method = self.method.currentData() or one.methods[0]
            self._show(self._desk.estimate(one, method, self.epochs.value()))

    def _show(self, found: Estimate | Trouble | None) -> None:
        if found is None:
            self.takes.setText(MEASURING)
        elif isinstance(found, Trouble):
            self.takes.setText(dotted(BAD if found.memory else DOUBT, found.text))
            if found.memory:
                self.start.setEnabled(False)
        else:
            text = escape(found.text)
            if found.warning:
                text += f"<br>{dotted(DOUBT, found.warning)}"
            self.takes.setText(text)

    def showEvent(self, event: Any) -> None:
        """Measure now what nobody asked for while the box was hidden."""
        super().showEvent(event)
        self._desk.forget_troubles()
        self._show_estimate()

    def _go(self) -> None:
        self.start_requested.emit(
            self.base.currentData(), self.method.currentData(), self.epochs.value()
        )
