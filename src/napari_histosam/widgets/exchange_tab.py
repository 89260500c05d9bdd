"""Export and import, each with a preview of what will happen."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container
from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QTimer,
    Signal,
)
from qtpy.QtWidgets import QFileDialog, QGroupBox, QLabel, QVBoxLayout, QWidget

from napari_histosam.session.handover import (
    FORMATS,
    REGIONS,
    ExportPlan,
    apply_import,
    plan_text,
    read_for_import,
    run_export,
)
from napari_histosam.viewer.attempt import told
from napari_histosam.widgets.parts import button, note, number, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.exchange.origin import OriginKind
    from napari_histosam.jobs import CancelToken, JobRunner, Progress
    from napari_histosam.session import Session
    from napari_histosam.session.handover import Incoming
    from napari_histosam.viewer.controller import Controller

ORIGINS: dict[str, OriginKind] = {
    "Full slide (level 0)": "full-slide",
    "QuPath's cropped bounds": "qupath-bounds",
}
STEPS = (1, 2, 4, 8, 16, 32)
# Most programs open a label image of this side without effort: the step proposed at first.
EASY_SIDE = 8192
# A PNG is one stream of rows that readers take into memory whole; TIFF has tiles.
PNG_PIXELS = 2**30
ORIGIN_TIP = (
    "Where (0, 0) lies. The choice matters for slides with bounds (MIRAX and some others): "
    "QuPath crops those when it opens them."
)
# The view is counted once the user has stopped moving it.
AFTER_MOVE_MS = 250
WELCOME = "GeoJSON (QuPath and others) and label images."
OPENABLE = "Annotations (*.geojson *.json *.gz *.png *.tif *.tiff);;All files (*)"


class ExchangeTab(QWidget):
    """Hands objects to other programs and takes theirs.

    Parameters
    ----------
    jobs : JobRunner
    """

    said = Signal(str)
    job_started = Signal(object)

    def __init__(self, jobs: JobRunner) -> None:
        super().__init__()
        self._jobs = jobs
        self._controller: Controller | None = None
        self._incoming: Incoming | None = None
        self.format = ComboBox(label="Format", choices=[f.title for f in FORMATS])
        self.region = ComboBox(label="Objects", choices=list(REGIONS))
        self.origin = ComboBox(label="Origin", choices=list(ORIGINS))
        self.origin.tooltip = ORIGIN_TIP
        self.downsample = ComboBox(label="Shrink", choices=[(_step(n), n) for n in STEPS])
        self.downsample.tooltip = "Level-0 pixels per label pixel, along x and along y"
        self.detections = CheckBox(label="", text="As detections (lighter for many cells)")
        self.options = Container(
            widgets=[self.format, self.region, self.origin, self.downsample, self.detections],
            labels=True,
        )
        self.options.margins = (0, 0, 0, 0)
        self.region.changed.connect(self._propose_step)
        self.options.changed.connect(self._preview)
        self.preview = note()
        self.export_button = button(
            "Export…", "Choose a file and write the objects", self._ask_export
        )
        self.result = note()
        self.import_button = button("Import…", "Read objects from a file", self._ask_import)
        self.import_text = note(WELCOME)
        self.confirm = button(
            "Add them", "Add the objects as one step that undo takes back", self._confirm
        )
        self.discard = button("Cancel", "Leave everything as it is", self._discard)
        out = QGroupBox("Export")
        out_layout = QVBoxLayout(out)
        out_layout.addWidget(self.options.native)
        out_layout.addWidget(self.preview)
        out_layout.addLayout(row(self.export_button, stretch=True))
        out_layout.addWidget(self.result)
        inward = QGroupBox("Import")
        in_layout = QVBoxLayout(inward)
        in_layout.addWidget(self.import_text)
        in_layout.addLayout(row(self.import_button, self.confirm, self.discard, stretch=True))
        layout = QVBoxLayout(self)
        layout.addWidget(out)
        layout.addWidget(inward)
        layout.addStretch(1)
        self._after_move = QTimer(self)
        self._after_move.setSingleShot(True)
        self._after_move.setInterval(AFTER_MOVE_MS)
        self._after_move.timeout.connect(self._preview)
        self.show_controller(None)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.store.changed.disconnect(self._preview)
            self._controller.session.objects.selection_changed.disconnect(self._preview)
            self._controller.viewer.scene.camera.events.disconnect(self._on_camera)
        self._controller = controller
        self._incoming = None
        self.setEnabled(controller is not None)
        if controller is not None:
            controller.session.store.changed.connect(self._preview)
            controller.session.objects.selection_changed.connect(self._preview)
            controller.viewer.scene.camera.events.connect(self._on_camera)
            has_bounds = controller.session.slide.bounds is not None
            self.origin.enabled = has_bounds
            self.origin.value = list(ORIGINS)[1 if has_bounds else 0]
        self._show_incoming()
        self._propose_step()
        self._preview()

    def showEvent(self, event: Any) -> None:
        """Say what would be written now; while the tab is hidden nobody reads it."""
        super().showEvent(event)
        titles = [t for t in self.options.native.findChildren(QLabel) if t.text()]
        for title in titles:
            title.setMinimumWidth(max(t.sizeHint().width() for t in titles))
        self._preview()

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def plan(self) -> ExportPlan:
        """Return what the form asks for."""
        assert self._controller is not None
        return ExportPlan(
            format=next(f for f in FORMATS if f.title == self.format.value),
            region=REGIONS[self.region.value],
            view=self._controller.view,
            origin=ORIGINS[self.origin.value],
            as_detections=bool(self.detections.value),
            downsample=float(self.downsample.value),
        )

    def export_to(self, path: Path) -> None:
        """Write the objects to ``path``, in the background."""
        if self._controller is None:
            return
        session, plan = self._controller.session, self.plan()

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> Any:
            return run_export(session, plan, path, report, cancel)

        running = self._jobs.start(f"Exporting to {path.name}", job)
        running.finished.connect(self._exported)
        self.job_started.emit(running)

    def read_from(self, path: Path) -> None:
        """Read ``path`` in the background and show what it holds before anything is added."""
        if self._controller is None:
            return
        session = self._controller.session

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> Incoming:
            return read_for_import(session, path, report, cancel)

        running = self._jobs.start(f"Reading {path.name}", job)
        running.finished.connect(partial(self._arrived, session))
        self.job_started.emit(running)

    @told
    def _preview(self, *_: Any) -> None:
        if self._controller is None:
            self.preview.setText("Open a slide first.")
            self.export_button.setEnabled(False)
            return
        if not self.isVisible():
            return
        plan = self.plan()
        self.detections.visible = self.origin.visible = ".geojson" in plan.format.suffix
        self.downsample.visible = plan.format.raster
        count, text = plan_text(self._controller.session, plan)
        width, height = (side / plan.downsample for side in self._region_size())
        if plan.format.suffix == ".png" and width * height > PNG_PIXELS:
            count = 0
            text = (
                f"{number(width)} x {number(height)} px are too many for one PNG; choose a coarser "
                "step, the objects in the view, or TIFF."
            )
        self.preview.setText(text)
        self.export_button.setEnabled(count > 0)

    def _on_camera(self, _event: Any) -> None:
        if self.isVisible() and REGIONS[self.region.value] == "view":
            self._after_move.start()

    def _region_size(self) -> tuple[float, float]:
        """Return width and height of what a label image would show, level-0 px."""
        if self._controller is None:
            return 0.0, 0.0
        slide = self._controller.session.slide
        if REGIONS[self.region.value] != "view":
            return float(slide.width), float(slide.height)
        left, top, right, bottom = self._controller.view
        width = min(right, slide.width) - max(left, 0.0)
        return max(width, 1.0), max(min(bottom, slide.height) - max(top, 0.0), 1.0)

    def _propose_step(self, *_: Any) -> None:
        side = max(self._region_size())
        self.downsample.value = next((n for n in STEPS if side / n <= EASY_SIDE), STEPS[-1])

    def _ask_export(self) -> None:
        if self._controller is None:
            return
        chosen, slide = self.plan().format, self._controller.session.slide
        start = slide.path.with_suffix("").name if slide.path else slide.name
        kinds = f"{chosen.title} (*{chosen.suffix})"
        path, _ = QFileDialog.getSaveFileName(self, "Export objects", start + chosen.suffix, kinds)
        if path:
            target = Path(path)
            if not target.name.lower().endswith(chosen.suffix):
                target = target.with_name(target.name + chosen.suffix)
            self.export_to(target)

    def _exported(self, report: Any) -> None:
        text = f"{number(report.n)} objects written to {report.path}"
        self.result.setText("\n".join([text, *report.warnings]))
        self.said.emit(text)

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import objects", "", OPENABLE)
        if path:
            self.read_from(Path(path))

    def _arrived(self, session: Session, incoming: Incoming) -> None:
        # What was read for one slide must not land on another that was chosen since.
        if self._controller is not None and self._controller.session is session:
            self._incoming = incoming
            self._show_incoming()

    def _show_incoming(self) -> None:
        waiting = self._incoming is not None
        writable = self._controller is not None and not self._controller.session.store.read_only
        self.import_button.setEnabled(writable)
        self.confirm.setVisible(waiting)
        self.discard.setVisible(waiting)
        self.import_button.setVisible(not waiting)
        self.import_text.setText(self._incoming.text.strip() if self._incoming else WELCOME)

    @told
    def _confirm(self) -> None:
        if self._controller is None or self._incoming is None:
            return
        count = apply_import(self._controller.session, self._incoming)
        self.say(f"{number(count)} objects added; undo takes them back in one step.")
        self._discard()

    def _discard(self) -> None:
        self._incoming = None
        self._show_incoming()


def _step(pixels: int) -> str:
    return "not at all" if pixels == 1 else f"{pixels} x {pixels} pixels to one"
