"""Export and import, each with a preview of what will happen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGroupBox, QVBoxLayout, QWidget

from napari_histosam.errors import HistosamError
from napari_histosam.session.handover import (
    FORMATS,
    REGIONS,
    ExportPlan,
    apply_import,
    plan_text,
    read_for_import,
    run_export,
)
from napari_histosam.widgets.parts import button, note, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.jobs import CancelToken, JobRunner, Progress
    from napari_histosam.session.handover import Incoming
    from napari_histosam.viewer.controller import Controller

ORIGINS = {"Full slide (level 0)": "full-slide", "QuPath's cropped bounds": "qupath-bounds"}


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
        self.origin.tooltip = (
            "Where (0, 0) lies. The choice matters for slides with bounds (MIRAX and some others): "
            "QuPath crops those when it opens them."
        )
        self.detections = CheckBox(label="", text="As detections (lighter for many cells)")
        self.options = Container(
            widgets=[self.format, self.region, self.origin, self.detections], labels=True
        )
        self.options.margins = (0, 0, 0, 0)
        self.options.changed.connect(self._preview)
        self.preview = note()
        self.export_button = button("Export…", "Choose a file and write the objects", self._ask_export)
        self.result = note()
        self.import_button = button("Import…", "Read objects from a file", self._ask_import)
        self.import_text = note("GeoJSON (QuPath and others) and label images.")
        self.confirm = button("Add them", "Add the objects as one step that undo takes back", self._confirm)
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
        self.show_controller(None)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.store.changed.disconnect(self._preview)
            self._controller.session.objects.selection_changed.disconnect(self._preview)
        self._controller = controller
        self._incoming = None
        self.setEnabled(controller is not None)
        if controller is not None:
            controller.session.store.changed.connect(self._preview)
            controller.session.objects.selection_changed.connect(self._preview)
            has_bounds = controller.session.slide.bounds is not None
            self.origin.enabled = has_bounds
            self.origin.value = list(ORIGINS)[1 if has_bounds else 0]
        self._show_incoming()
        self._preview()

    def plan(self) -> ExportPlan:
        """Return what the form asks for."""
        assert self._controller is not None
        return ExportPlan(
            format=next(f for f in FORMATS if f.title == self.format.value),
            region=REGIONS[self.region.value],
            view=self._controller.view,
            origin=ORIGINS[self.origin.value],
            as_detections=bool(self.detections.value),
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
        running.finished.connect(self._arrived)
        self.job_started.emit(running)

    def _preview(self, *_: Any) -> None:
        if self._controller is None:
            self.preview.setText("Open a slide first.")
            self.export_button.setEnabled(False)
            return
        chosen = next(f for f in FORMATS if f.title == self.format.value)
        self.detections.visible = chosen.suffix.startswith(".geojson")
        self.origin.visible = chosen.suffix.startswith(".geojson")
        count, text = plan_text(self._controller.session, self.plan())
        self.preview.setText(text)
        self.export_button.setEnabled(count > 0)

    def _ask_export(self) -> None:
        if self._controller is None:
            return
        plan, slide = self.plan(), self._controller.session.slide
        start = Path(slide.path).with_suffix("").name if slide.path else slide.name
        path, _ = QFileDialog.getSaveFileName(
            self, "Export objects", f"{start}{plan.format.suffix}", f"{plan.format.title} (*{plan.format.suffix})"
        )
        if path:
            target = Path(path)
            if not target.name.lower().endswith(plan.format.suffix):
                target = target.with_name(target.name + plan.format.suffix)
            self.export_to(target)

    def _exported(self, report: Any) -> None:
        text = f"{report.n:,} objects written to {report.path}".replace(",", " ")
        self.result.setText("\n".join([text, *report.warnings]))
        self.said.emit(text)

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Import objects", "", "Annotations (*.geojson *.json *.gz *.png *.tif *.tiff);;All files (*)"
        )
        if path:
            self.read_from(Path(path))

    def _arrived(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._show_incoming()

    def _show_incoming(self) -> None:
        waiting = self._incoming is not None
        self.confirm.setVisible(waiting)
        self.discard.setVisible(waiting)
        self.import_button.setVisible(not waiting)
        self.import_text.setText(
            self._incoming.text if self._incoming else "GeoJSON (QuPath and others) and label images."
        )

    def _confirm(self) -> None:
        if self._controller is None or self._incoming is None:
            return
        try:
            count = apply_import(self._controller.session, self._incoming)
        except HistosamError as error:
            self.said.emit(str(error))
            return
        self.said.emit(f"{count:,} objects added; undo takes them back in one step.".replace(",", " "))
        self._discard()

    def _discard(self) -> None:
        self._incoming = None
        self._show_incoming()
