"""The *Annotate* tab: model, class, tool, the object in hand, and the objects kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QSize,
    Signal,
)
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_histosam.widgets.class_bar import ClassBar
from napari_histosam.widgets.compare_box import CompareBox
from napari_histosam.widgets.model_box import ModelBox
from napari_histosam.widgets.object_box import ObjectBox
from napari_histosam.widgets.object_table import ObjectTable
from napari_histosam.widgets.tool_bar import ToolBar

if TYPE_CHECKING:
    from napari_histosam.jobs import JobRunner
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench


class AnnotateTab(QWidget):
    """What a day's work needs, top to bottom in the order of use."""

    said = Signal(str)
    job_started = Signal(object)

    def __init__(self, workbench: Workbench, jobs: JobRunner) -> None:
        super().__init__()
        self.model = ModelBox(workbench, jobs)
        self.classes = ClassBar()
        self.tools = ToolBar()
        self.object = ObjectBox()
        self.compare = CompareBox(workbench)
        self.objects = ObjectTable()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        for part in (self.model, self.classes, self.tools, self.object, self.compare):
            layout.addWidget(part)
        layout.addWidget(self.objects, 1)
        self.model.said.connect(self.said)
        self.model.job_started.connect(self.job_started)
        self.classes.said.connect(self.said)

    def minimumSizeHint(self) -> QSize:
        """Ask for width only; of texts that wrap, Qt's least height is that of the narrowest."""
        return QSize(super().minimumSizeHint().width(), 0)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        for part in (
            self.model,
            self.classes,
            self.tools,
            self.object,
            self.compare,
            self.objects,
        ):
            part.show_controller(controller)
