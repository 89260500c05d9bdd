"""The *Automate* tab: a model finds the objects, or maps the regions, of a part of a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QSize,
    Signal,
)
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDoubleSpinBox,
    QProgressBar,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.session.automate import Outcome
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.automation import Automation, Where, Wish
from napari_histosam.viewer.tools import Tool
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, choice, label, note, row
from napari_histosam.widgets.region_box import RegionBox

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

    from napari_histosam.jobs import Dispatcher, JobRunner, Progress
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench

INTRO = (
    "A model finds all objects by itself. They appear while it works; one Ctrl+Z takes the whole "
    "run back. Objects that are there already stay as they are."
)
INTRO_REGIONS = (
    "A model maps how likely each kind of tissue is. The map appears while it works; afterwards "
    "you choose the threshold, see what would become objects, and make them."
)
STOPPED = (
    "The last run on this slide was stopped before its end; with the same settings, Start goes on."
)
AS_THE_MODEL = "As the model says"


class AutomateTab(QWidget):
    """Chooses model and place, runs, and hands what was found to the review.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
    dispatcher : Dispatcher
    """

    said = Signal(str)
    job_started = Signal(object)
    review_requested = Signal(object)

    def __init__(self, workbench: Workbench, jobs: JobRunner, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._workbench = workbench
        self._controller: Controller | None = None
        self._filling = False
        self.automation = Automation(workbench, jobs, dispatcher)
        self.intro = note(INTRO)
        self.model = choice("The models that find objects or map regions without prompts")
        self.model_text = note()
        self._places = QButtonGroup(self)
        self.places = {where: QRadioButton(where.value) for where in Where}
        for made in self.places.values():
            self._places.addButton(made)
        self.places[Where.VIEW].setChecked(True)
        self.draw = button("Draw", "Draw a line around the region on the slide", self._draw)
        self.clear = button("Clear", "Forget the drawn region", self._clear)
        self.classes = choice("The class that the objects get")
        self.least_label = label("Leave out scores below")
        self.least = QDoubleSpinBox()
        self.least.setRange(0.0, 1.0)
        self.least.setSingleStep(0.05)
        self.least.setToolTip("Objects of which the model is less certain are left out")
        self.heat = QCheckBox("Heat map alone, without outlines")
        self.heat.setToolTip(
            "How warm the classifier finds each place, times how likely it finds tumour there"
        )
        self.trouble = note()
        self.start = button("Start", "Find the objects", self._start)
        self.start.setStyleSheet(PRIMARY_STYLE)
        self.hold = button("Pause", "Hold the run; the slide can be used", self.automation.hold)
        self.cancel = button(
            "Cancel", "Stop; what was found stays, and Start goes on from there", self._cancel
        )
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.progress_text = note()
        self.result = note()
        self.regions = RegionBox(self.automation.regions, self._class)
        self.review = button(
            "Review what was found", "One by one, least certain first", self._review
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(self.intro)
        layout.addLayout(row(label("Model"), self.model))
        layout.addWidget(self.model_text)
        layout.addWidget(label("Where"))
        layout.addWidget(self.places[Where.VIEW])
        layout.addLayout(row(self.places[Where.REGION], self.draw, self.clear, stretch=True))
        layout.addWidget(self.places[Where.WHOLE])
        layout.addLayout(row(label("Class"), self.classes))
        layout.addLayout(row(self.least_label, self.least, stretch=True))
        layout.addWidget(self.heat)
        layout.addWidget(self.trouble)
        layout.addLayout(row(self.start, self.hold, self.cancel))
        layout.addWidget(self.bar)
        layout.addWidget(self.progress_text)
        layout.addWidget(self.result)
        layout.addWidget(self.regions)
        layout.addWidget(self.review)
        layout.addStretch(1)
        self.model.activated.connect(self._update)
        self._places.buttonToggled.connect(self._update)
        self.classes.activated.connect(self._update)
        self.automation.changed.connect(self._update)
        self.automation.said.connect(self.said.emit)
        self.automation.regions.changed.connect(self._update)
        self.regions.said.connect(self.said.emit)
        self.regions.job_started.connect(self.job_started.emit)
        self.refresh_models()
        self.show_controller(None)

    def minimumSizeHint(self) -> QSize:
        """Ask for width only; of texts that wrap, Qt's least height is that of the narrowest."""
        return QSize(super().minimumSizeHint().width(), 0)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def end(self) -> None:
        """Let go of the map that is shown; called when the dock is closed."""
        self.automation.regions.close()

    def showEvent(self, event: QShowEvent) -> None:
        """Show models and objects as they are now."""
        super().showEvent(event)
        self.refresh_models()
        self._update()

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session; a run on the old slide stops."""
        if self._controller is not None:
            self._controller.session.store.changed.disconnect(self._on_change)
        self._controller = controller
        if controller is not None:
            controller.session.store.changed.connect(self._on_change)
        self.setEnabled(controller is not None)
        self._list_classes()
        self.automation.show_controller(controller)

    def refresh_models(self) -> None:
        """List the models again."""
        before = self.model.currentData()
        registry = self._workbench.registry
        self.model.clear()
        for card in self.automation.models():
            mark = "" if registry.is_ready(card.name) else " (absent)"
            self.model.addItem(card.name + mark, card.name)
        self.model.setCurrentIndex(max(0, self.model.findData(before)))

    @property
    def wish(self) -> Wish:
        """What the user has chosen."""
        where = next(w for w, made in self.places.items() if made.isChecked())
        model = self.model.currentData() or ""
        heat = self.heat.isChecked() and self.automation.has_heat(model)
        return Wish(model, where, round(self.least.value(), 4), self._class(), heat)

    def choose(self, model: str, *, heat: bool = False) -> bool:
        """Choose a model, and whether its heat map alone is wanted; tell whether it is there."""
        self.refresh_models()
        at = self.model.findData(model)
        if at < 0:
            return False
        self.model.setCurrentIndex(at)
        self.heat.setChecked(heat)
        if heat:
            self.places[Where.WHOLE].setChecked(True)
        self._update()
        return True

    def _class(self) -> str | None:
        return self.classes.currentText() if self.classes.currentIndex() > 0 else None

    @told
    def _start(self) -> None:
        running = self.automation.start(self.wish)
        running.progressed.connect(self._on_progress)
        self.result.clear()
        self.job_started.emit(running)

    def _cancel(self) -> None:
        self.automation.cancel()
        self.progress_text.setText("Stopping after the tile at hand…")

    def _draw(self) -> None:
        if self._controller is not None:
            self.places[Where.REGION].setChecked(True)
            self._controller.set_tool(Tool.REGION)
            self.said.emit("Keep the mouse button down and draw a line around the region.")

    def _clear(self) -> None:
        if self._controller is not None:
            self._controller.set_region(None)

    def _review(self) -> None:
        self.review_requested.emit(self.automation.found())

    def _on_progress(self, progress: Progress) -> None:
        share = progress.fraction
        self.bar.setRange(0, 0 if share is None else 1000)
        self.bar.setValue(0 if share is None else round(share * 1000))
        self.progress_text.setText(progress.text)

    def _on_change(self, change: Any) -> None:
        if change.classes_changed:
            self._list_classes()

    def _list_classes(self) -> None:
        before = self.classes.currentText()
        self.classes.clear()
        self.classes.addItem(AS_THE_MODEL)
        if self._controller is not None:
            self.classes.addItems([c.name for c in self._controller.session.store.classes()])
        self.classes.setCurrentIndex(max(0, self.classes.findText(before)))

    def _update(self, *_: Any) -> None:
        of, wish = self.automation, self.wish
        at_work = of.running is not None
        trouble = of.trouble(wish)
        self.trouble.setText("" if at_work else trouble)
        self.trouble.setVisible(bool(self.trouble.text()))
        self.start.setEnabled(not at_work and not trouble)
        for widget in (self.model, self.classes, self.least, self.draw, *self.places.values()):
            widget.setEnabled(not at_work)
        drawn = self._controller is not None and self._controller.region is not None
        self.clear.setVisible(drawn and not at_work)
        self.hold.setEnabled(at_work)
        self.hold.setText("Go on" if at_work and of.pause.paused else "Pause")
        self.cancel.setEnabled(at_work)
        self.bar.setVisible(at_work)
        self.progress_text.setVisible(at_work)
        self.model_text.setText(self._about(wish.model))
        maps = of.maps(wish.model)
        self.intro.setText(INTRO_REGIONS if maps else INTRO)
        self.start.setToolTip("Map the regions" if maps else "Find the objects")
        self.heat.setVisible(of.has_heat(wish.model))
        self.heat.setEnabled(not at_work)
        self.least.setVisible(not maps)
        self.least_label.setVisible(not maps)
        outcome, last = of.outcome, of.last
        if outcome is not None:
            self.result.setText(outcome.text)
        elif last is not None and last.ended is None and not at_work:
            self.result.setText(STOPPED)
        else:
            self.result.clear()
        self.result.setVisible(bool(self.result.text()))
        something = outcome.objects > 0 if isinstance(outcome, Outcome) else last is not None
        self.review.setVisible(something)

    def _about(self, name: str) -> str:
        """Return what a model finds, and at which scale it looks."""
        if not name:
            return ""
        card = self._workbench.registry.get(name)
        finds = ", ".join(card.classes) or "objects"
        scale = f"{card.mpp:g} µm/px" if card.mpp else "0.5 µm/px"
        what = "Maps" if card.finds == "regions" else "Finds"
        text = f"{what}: {finds} · looks at {scale} · {card.licence.split(' (')[0]}"
        if not card.takes:
            text += f"\n{name} takes no clicks or boxes, so it is not offered in the Annotate tab."
        chosen = self._workbench.model
        if self._workbench.registry.get(chosen).finds is None:
            text += f"\n{chosen} (Annotate tab) needs prompts, so it is not used here."
        return text
