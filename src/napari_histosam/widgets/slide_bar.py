"""Which slide is at work: its name and scale, Open slide…, and the scale asked once if missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # qtpy gives it at run time
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.viewer.colour import set_transform
from napari_histosam.widgets.parts import button, choice, note, number, row

if TYPE_CHECKING:
    from napari_histosam.slide import Slide
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.display import SlideDisplay
    from napari_histosam.viewer.workbench import Workbench

FILTER = (
    "Slides (*.svs *.ndpi *.mrxs *.scn *.vms *.vmu *.bif *.svslide *.tif *.tiff *.btf *.dcm "
    "*.czi *.jp2 *.png *.jpg *.jpeg);;All files (*)"
)


WELCOME = "Open a slide, or drop one on the canvas. To try it out, use File, Open Sample."
# What OpenSlide calls the files of no scanner in particular.
PLAIN = ("generic-tiff", "dicom")


class SlideBar(QWidget):
    """The dock's head.

    Parameters
    ----------
    workbench : Workbench
    """

    open_requested = Signal(str)
    adopt_requested = Signal(object)
    scale_given = Signal(float, float)
    take_over_requested = Signal()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._controller: Controller | None = None
        self._filling = False
        self.slides = choice(
            "The slide at work. Other slides and RGB images of the viewer are here too."
        )
        self.slides.currentIndexChanged.connect(self._choose)
        self.open_button = button("Open slide…", "Open a slide file", self.ask_file)
        self.open_button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
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
            "Set scale",
            "Remember this scale for this slide",
            lambda: self.scale_given.emit(self.mpp_x.value(), self.mpp_y.value()),
        )
        scale.addWidget(self.scale_text)
        scale.addLayout(
            row(QLabel("µm/px  x"), self.mpp_x, QLabel("y"), self.mpp_y, self.set_scale)
        )
        self.icc = QCheckBox("Show colours by the scanner's ICC profile")
        self.icc.setToolTip("For the screen only: models always get the pixels as they are stored.")
        self.icc.toggled.connect(self._colour)
        self.read_only = note()
        self.take_over = button(
            "Try again", "Take over once the other window is closed", self.take_over_requested.emit
        )
        self.read_only_row = QWidget()
        locked = QVBoxLayout(self.read_only_row)
        locked.setContentsMargins(0, 0, 0, 0)
        locked.addWidget(self.read_only)
        locked.addLayout(row(self.take_over, stretch=True))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.slides, self.open_button))
        layout.addWidget(self.facts)
        layout.addWidget(self.icc)
        layout.addWidget(self.scale_row)
        layout.addWidget(self.read_only_row)
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
        store = controller.session.store if controller else None
        self.read_only_row.setVisible(store is not None and store.read_only)
        self.read_only.setText((store.read_only_reason if store else None) or "")
        self.facts.setText(_facts(slide) if slide else WELCOME)
        self.scale_row.setVisible(slide is not None and slide.mpp is None)
        display = self._display
        self.icc.setVisible(display is not None and bool(display.slide.icc_profile))
        self._filling = True
        self.icc.setChecked(display is not None and display.colours.transform is not None)
        self._filling = False
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

    @property
    def _display(self) -> SlideDisplay | None:
        """What shows the slide; an image that we adopted is shown by napari alone."""
        found: SlideDisplay | None = None
        if self._controller is not None:
            found = self._controller.layer.metadata.get("histosam_display")
        return found

    def _colour(self, on: bool) -> None:
        display = self._display
        if display is not None and not self._filling:
            set_transform(display.pyramid, display.slide.icc_transform() if on else None)


def _facts(slide: Slide) -> str:
    if slide.mpp is None:
        scale = "scale unknown"
    elif abs(slide.mpp[0] - slide.mpp[1]) < 1e-4:
        scale = f"{slide.mpp[0]:.4g} µm/px"
    else:
        scale = f"{slide.mpp[0]:.4g} x {slide.mpp[1]:.4g} µm/px"
    power = f" · {slide.objective:g}x" if slide.objective else ""
    size = f"{number(slide.width)} x {number(slide.height)} px"
    plain = slide.vendor is None or slide.vendor in PLAIN
    maker = slide.format.removeprefix("generic-").upper() if plain else slide.format.capitalize()
    return f"{maker} · {scale}{power} · {size}"


def _mpp_box() -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(4)
    box.setRange(0.01, 1000.0)
    box.setSingleStep(0.05)
    box.setValue(0.5)
    return box
