"""The guided way from patch labels to a model: five steps, each with what it needs and a button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal  # type: ignore[attr-defined]  # qtpy has Signal, QTimer
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFrame,
    QGroupBox,
    QLabel,
    QProgressBar,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.viewer.attempt import told
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, label, note, row
from napari_histosam.widgets.patch_box import PatchBox

if TYPE_CHECKING:
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.heat import HeatShower
    from napari_histosam.viewer.learning.guide import Guide, Key, Step
    from napari_histosam.viewer.learning.patch_bases import PatchBase

# Milliseconds between two looks at a training's files.
LOOK_MS = 500
MARKS = {"waits": "○", "ready": "●", "running": "◐", "halted": "◐", "failed": "✕", "done": "✓"}
COLOURS = {
    "waits": "#6b7280",
    "ready": "#4c9be8",
    "running": "#4c9be8",
    "halted": "#facc15",
    "failed": "#ef4444",
    "done": "#22c55e",
}
THRESHOLD_TIP = (
    "Of the warm part of each patch, what is colder than so many percent of it is left out.\nThe "
    "outlines are learned from what stays."
)
AGREEMENT_TIP = (
    "How much of an outline that SAM proposes must be warm, for it to be learned from.\nHigher: "
    "fewer, surer outlines"
)


class StepRow(QFrame):
    """One step: its mark and title, what there is to say, its button, what belongs to it."""

    pressed = Signal(str)

    def __init__(self, key: Key, number: int) -> None:
        super().__init__()
        self.key, self._number = key, number
        self._standing = ""
        self.title = QLabel()
        self.text = note()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.action = button("", "", lambda: self.pressed.emit(self.key))
        self._inside = QVBoxLayout()
        self._inside.setContentsMargins(20, 0, 0, 0)
        self._inside.setSpacing(4)
        self._inside.addWidget(self.text)
        self._inside.addWidget(self.bar)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 4)
        layout.setSpacing(2)
        layout.addLayout(row(self.title, stretch=True))
        layout.addLayout(self._inside)
        self._buttons = row(self.action, stretch=True)
        self._inside.addLayout(self._buttons)

    def add(self, widget: QWidget) -> None:
        """Put something that belongs to the step below its button."""
        self._inside.addWidget(widget)

    def show_step(self, step: Step, *, next_one: bool) -> None:
        """Show how the step stands; ``next_one`` if it is the one to do next."""
        colour = COLOURS[step.standing]
        mark = f'<span style="color:{colour}">{MARKS[step.standing]}</span>'
        dim = "#8b93a0" if step.standing == "waits" else "#f0f2f5"
        title = f'<span style="color:{dim}">{self._number}&nbsp; {step.title}</span>'
        self.title.setText(f"{mark}&nbsp; <b>{title}</b>")
        self.text.setText(step.text)
        self.action.setVisible(bool(step.action))
        self.action.setText(step.action)
        self.action.setStyleSheet(PRIMARY_STYLE if next_one else "")
        self.bar.setVisible(step.standing == "running")
        if step.standing == "running":
            known = step.fraction is not None
            self.bar.setRange(0, 1000 if known else 0)
            self.bar.setValue(round(1000 * (step.fraction or 0.0)))


class GuideBox(QGroupBox):
    """The steps, one below the other.

    Parameters
    ----------
    guide : Guide
    """

    said = Signal(str)
    job_started = Signal(object)
    predict_requested = Signal(str)
    heat_requested = Signal(str)
    train_requested = Signal()

    def __init__(self, guide: Guide) -> None:
        super().__init__("From patch labels to tumour areas")
        self.guide = guide
        self.patches = PatchBox()
        self.slides = note()
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0, 99)
        self.threshold.setToolTip(THRESHOLD_TIP)
        self.value = label("")
        self.heat_row = QWidget()
        self.hide_heat = button("Hide", "Take the heat away", self._hide_heat)
        self.whole = button(
            "Whole slide…", "Map the heat of the slide in the tab Automate", self._map_heat
        )
        of_view = row(label("Threshold"), self.threshold, self.value, self.hide_heat)
        inside = QVBoxLayout(self.heat_row)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addLayout(of_view)
        inside.addLayout(row(self.whole, stretch=True))
        self.agreement = QDoubleSpinBox()
        self.agreement.setRange(0.0, 1.0)
        self.agreement.setSingleStep(0.05)
        self.agreement.setValue(guide.agreement)
        self.agreement.setToolTip(AGREEMENT_TIP)
        self.agreement_row = QWidget()
        self.agreement_row.setLayout(row(label("Agreement"), self.agreement, stretch=True))
        layout = QVBoxLayout(self)
        layout.setSpacing(2)
        self.rows: dict[str, StepRow] = {}
        from napari_histosam.viewer.learning.guide import KEYS

        for number, key in enumerate(KEYS, 1):
            made = self.rows[key] = StepRow(key, number)
            made.pressed.connect(self._press)
            layout.addWidget(made)
        self.rows["label"].add(self.slides)
        self.rows["label"].add(self.patches)
        self.rows["heat"].add(self.heat_row)
        self.rows["outlines"].add(self.agreement_row)
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._on_look)
        self.threshold.valueChanged.connect(self._on_threshold)
        self.agreement.valueChanged.connect(self._on_agreement)
        self.patches.said.connect(self.said.emit)
        guide.said.connect(self.said.emit)
        guide.changed.connect(self.refresh)
        self._open = True
        self.refresh()

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def choose(self, base: PatchBase | None) -> None:
        """Teach another model; None hides the steps."""
        self.guide.choose(base)
        self.setVisible(base is not None)
        if base is not None:
            self._open = not self.guide.model
            self.refresh()

    def show_controller(self, controller: Controller | None, heat: HeatShower | None) -> None:
        """Follow another session."""
        self.patches.show_controller(controller)
        self.guide.show_controller(controller, heat)

    def showEvent(self, event: Any) -> None:
        """Look at labels and training as they are now."""
        super().showEvent(event)
        reading = self.guide.shelf.read()
        if reading is not None:
            self.job_started.emit(reading)
        self._look.start()
        self._on_look()

    def hideEvent(self, event: Any) -> None:
        """Look at nothing while nobody sees it."""
        super().hideEvent(event)
        self._look.stop()

    def end(self) -> None:
        """Look at nothing any more; a training goes on."""
        self._look.stop()

    def refresh(self) -> None:
        """Show all steps as they stand."""
        if self.guide.base is None:
            return
        steps = self.guide.steps()
        ahead = next((s.key for s in steps if s.standing in ("ready", "halted", "failed")), "")
        for step in steps:
            self.rows[step.key].show_step(step, next_one=step.key == ahead)
        toggle = self.rows["label"].action
        toggle.setText("Hide the patches" if self._open else "Label patches")
        if self._open:
            toggle.setStyleSheet("")
        self.patches.setVisible(self._open)
        slides = self.guide.shelf.slides
        self.slides.setVisible(len(slides) > 1)
        self.slides.setText(
            "\n".join(f"{one.name}: {one.tumour} tumour, {one.normal} normal" for one in slides)
        )
        self._show_heat()
        self.agreement_row.setVisible(
            any(s.key == "outlines" and s.standing in ("ready", "done") for s in steps)
        )

    def _show_heat(self) -> None:
        heat = self.guide.heat
        shown = heat is not None and bool(heat.text)
        self.heat_row.setVisible(shown)
        if heat is None or heat.percentile is None:
            return
        was = self.threshold.blockSignals(True)
        self.threshold.setValue(round(heat.percentile))
        self.threshold.blockSignals(was)
        self.value.setText(f"{heat.percentile:.0f} %")

    @told
    def _press(self, key: str) -> None:
        guide = self.guide
        step = next(one for one in guide.steps() if one.key == key)
        if key == "label":
            self._open = not self._open
            if self._open:
                self._hide_heat()
            self.refresh()
        elif key == "heat":
            if guide.heat is not None:
                # Labels and heat on top of each other would hide both.
                self._open = False
                self.refresh()
                self.job_started.emit(guide.heat.show(guide.model))
        elif key == "predict":
            self.predict_requested.emit(guide.model)
        elif step.standing == "running":
            guide.pause()
        elif step.action == "Resume":
            guide.resume()
        elif key == "classifier":
            self.train_requested.emit()
        else:
            guide.outlines()
            self.say("The outlines are being learned; work on meanwhile.")

    def _map_heat(self) -> None:
        self._hide_heat()
        self.heat_requested.emit(self.guide.model)

    @told
    def _on_look(self) -> None:
        self.guide.look()

    @told
    def _on_threshold(self, value: int) -> None:
        if self.guide.heat is not None:
            self.guide.heat.set_percentile(float(value))

    def _on_agreement(self, value: float) -> None:
        self.guide.agreement = round(value, 4)

    @told
    def _hide_heat(self) -> None:
        if self.guide.heat is not None:
            self.guide.heat.hide()
