"""Which slide is at work: its name and scale, Open slide…, and the scale asked once if missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.viewer.colour import set_transform
from napari_histosam.widgets.parts import button, note, row

if TYPE_CHECKING:
    from napari_histosam.slide import Slide
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench

FILTER = (
    "Slides (*.svs *.ndpi *.mrxs *.scn *.vms *.vmu *.bif *.svslide *.tif *.tiff *.btf *.dcm "
    "*.czi *.jp2 *.png *.jpg *.jpeg);;All files (*)"
)


class SlideBar(QWidget):
    """The dock's head.

    Parameters
    ----------
    workbench : Workbench
    """

    open_requested = Signal(str)
    adopt_requested = Signal(object)
    scale_given = Signal(float, float)

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._controller: Controller | None = None
        self._filling = False
        self.slides = QComboBox()
        self.slides.setToolTip("The slide at work. Other slides and RGB images of the viewer are here too.")
        self.slides.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.slides.currentIndexChanged.connect(self._choose)
        self.open_button = button("Open slide…", "Open a slide file", self.ask_file)
        self.facts = note()
        self.mpp_x, self.mpp_y = _mpp_box(), _mpp_box()
        self.mpp_x.valueChanged.connect(self.mpp_y.setValue)
        self.scale_row = QWidget()
        scale = QVBoxLayout(self.scale_row)
        scale.setContentsMargins(0, 0, 0, 0)
        self.scale_text = note(
            "This file does not say how large a pixel is. Give its µm per pixel once (about 0.25 "
            "for 40x, 0.5 for 20x); it is remembered. Without it, sizes are in pixels."
        )
        self.set_scale = button(
            "Set scale", "Remember this scale for this slide",
            lambda: self.scale_given.emit(self.mpp_x.value(), self.mpp_y.value()),
        )
        scale.addWidget(self.scale_text)
        scale.addLayout(row(QLabel("µm/px  x"), self.mpp_x, QLabel("y"), self.mpp_y, self.set_scale))
        self.icc = QCheckBox("Show colours by the scanner's ICC profile")
        self.icc.setToolTip("For the screen only: models always get the pixels as they are stored.")
        self.icc.toggled.connect(self._colour)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.slides, self.open_button))
        layout.addWidget(self.facts)
        layout.addWidget(self.icc)
        layout.addWidget(self.scale_row)
        self.refresh_slides()
        self.show_controller(workbench.controller)

    def ask_file(self) -> None:
        """Let the user choose a slide file."""
        path, _ = QFileDialog.getOpenFileName(self, "Open slide", "", FILTER)
        if path:
            self.open_requested.emit(path)

    def show_controller(self, controller: Controller | None) -> None:
        """Show the slide at work."""
        self._controller = controller
        slide = controller.session.slide if controller else None
        self.facts.setText(_facts(slide) if slide else "Open a slide, or drop one on the canvas.")
        self.scale_row.setVisible(slide is not None and slide.mpp is None)
        has_icc = slide is not None and slide.icc_profile is not None and self._pyramid() is not None
        self.icc.setVisible(has_icc)
        self.refresh_slides()

    def refresh_slides(self) -> None:
        """List the viewer's slides and the RGB images that could be worked on."""
        self._filling = True
        self.slides.clear()
        for layer in self._workbench.slide_layers():
            self.slides.addItem(layer.name, layer)
        for layer in self._workbench.other_images():
            self.slides.addItem(f"Work on the image “{layer.name}”", layer)
        current = self._controller.layer if self._controller else None
        at = next((i for i in range(self.slides.count()) if self.slides.itemData(i) == current), -1)
        self.slides.setCurrentIndex(at)
        self.slides.setPlaceholderText("No slide at work")
        self.slides.setEnabled(self.slides.count() > 0)
        self._filling = False

    def _choose(self, index: int) -> None:
        if not self._filling and index >= 0:
            self.adopt_requested.emit(self.slides.itemData(index))

    def _pyramid(self) -> object:
        return self._controller.layer.metadata.get("histosam_pyramid") if self._controller else None

    def _colour(self, on: bool) -> None:
        if self._controller is None:
            return
        slide = self._controller.session.slide
        set_transform(self._pyramid(), slide.icc_transform() if on else None)  # type: ignore[arg-type]


def _facts(slide: Slide) -> str:
    if slide.mpp is None:
        scale = "scale unknown"
    elif abs(slide.mpp[0] - slide.mpp[1]) < 1e-4:
        scale = f"{slide.mpp[0]:.4g} µm/px"
    else:
        scale = f"{slide.mpp[0]:.4g} x {slide.mpp[1]:.4g} µm/px"
    power = f" · {slide.objective:g}x" if slide.objective else ""
    size = f"{slide.width:,} x {slide.height:,} px".replace(",", " ")
    maker = slide.vendor or slide.format
    return f"{maker.capitalize()} · {scale}{power} · {size}"


def _mpp_box() -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(4)
    box.setRange(0.01, 1000.0)
    box.setSingleStep(0.05)
    box.setValue(0.5)
    return box
