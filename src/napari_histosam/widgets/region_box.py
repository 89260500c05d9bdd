"""What is made of a map of regions: threshold, smoothing, least size, and the objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    Qt,
    QTimer,
    Signal,
)
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QSlider, QVBoxLayout, QWidget

from napari_histosam.session.regions import AreaSettings
from napari_histosam.viewer.attempt import told
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, label, note, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.viewer.region_view import RegionView

# The shares are worked out this long after the last move of the slider.
_SETTLE_MS = 250
OFF = "off"


class RegionBox(QWidget):
    """Lets a map become objects; hidden while none is shown.

    Parameters
    ----------
    view : RegionView
    class_name : callable
        Returns the class that all objects get, or None.
    """

    said = Signal(str)
    job_started = Signal(object)

    def __init__(self, view: RegionView, class_name: Callable[[], str | None]) -> None:
        super().__init__()
        self._view = view
        self._class_name = class_name
        self._filling = False
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(5, 95)
        self.threshold.setToolTip("From this probability on, tissue belongs to an area")
        self.value = label("0.50")
        self.smooth = _spin(0, 1000, " µm", "Nests and gaps narrower than this go; 0 is off")
        self.smooth.setSpecialValueText(OFF)
        self.least = _spin(0, 10_000_000, " µm²", "Smaller areas are left out")
        self.least.setSingleStep(500)
        self.shares = note()
        self.make = button("Make objects", "One object of each outlined area", self._make)
        self.make.setStyleSheet(PRIMARY_STYLE)
        self.keep = button(
            "Save map…", "Copy the probabilities to a folder, as OME-Zarr", self._choose
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(label("Areas of this map"))
        layout.addLayout(row(label("Threshold"), self.threshold, self.value))
        layout.addLayout(row(label("Smooth by"), self.smooth, stretch=True))
        layout.addLayout(row(label("Smallest area"), self.least, stretch=True))
        layout.addWidget(self.shares)
        layout.addLayout(row(self.make, self.keep, stretch=True))
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_SETTLE_MS)
        self._settled.timeout.connect(self._tell_shares)
        self.threshold.valueChanged.connect(self._on_settings)
        self.smooth.valueChanged.connect(self._on_settings)
        self.least.valueChanged.connect(self._on_settings)
        view.changed.connect(self._update)
        self._update()

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    @property
    def settings(self) -> AreaSettings:
        """What the user has chosen."""
        smooth = self.smooth.value()
        return AreaSettings(self.threshold.value() / 100, smooth or None, self.least.value())

    def _on_settings(self, _value: Any = None) -> None:
        self.value.setText(f"{self.threshold.value() / 100:.2f}")
        if not self._filling:
            self._view.set_settings(self.settings)

    @told
    def _make(self) -> None:
        self.job_started.emit(self._view.make_objects(self._class_name()))

    def _choose(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the map", "regions.ome.zarr", "OME-Zarr (*.ome.zarr)"
        )
        if path:
            self.save(Path(path))

    @told
    def save(self, folder: Path) -> None:
        """Copy the map to a folder."""
        self._view.save(folder)

    def _update(self) -> None:
        there = self._view.map is not None
        self.setVisible(there)
        if not there:
            return
        settings = self._view.settings
        if settings != self.settings:
            self._filling = True
            self.threshold.setValue(round(settings.threshold * 100))
            self.smooth.setValue(settings.smooth_um or 0)
            self.least.setValue(settings.least_um2)
            self._filling = False
        self.make.setEnabled(self._view.working is None)
        self._settled.start()

    @told
    def _tell_shares(self) -> None:
        parts = [f"{name} about {100 * share:.1f} %" for name, share in self._view.shares().items()]
        self.shares.setText(f"Of the tissue: {', '.join(parts)}" if parts else "")


def _spin(least: float, most: float, unit: str, tip: str) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setRange(least, most)
    made.setDecimals(0)
    made.setSuffix(unit)
    made.setToolTip(tip)
    return made
