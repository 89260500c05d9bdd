"""The HistoSAM dock: the slide on top, the tabs, the last word at the bottom."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (  # type: ignore[attr-defined]  # qtpy gives QShortcut at run time
    QMainWindow,
    QScrollArea,
    QShortcut,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.jobs import JobRunner
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.keys import actions
from napari_histosam.viewer.workbench import Workbench
from napari_histosam.widgets.annotate_tab import AnnotateTab
from napari_histosam.widgets.automate_tab import AutomateTab
from napari_histosam.widgets.exchange_tab import ExchangeTab
from napari_histosam.widgets.learn_tab import LearnTab
from napari_histosam.widgets.main_thread import MainThread
from napari_histosam.widgets.review_tab import ReviewTab
from napari_histosam.widgets.slide_bar import SlideBar
from napari_histosam.widgets.status_line import StatusLine

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_histosam.viewer.controller import Controller


class HistosamDock(QWidget):
    """The plugin's window part.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._closed = False
        self._docked = False
        self._window_closing = False
        self.status = StatusLine()
        self.thread_bridge = MainThread(self.say)
        self.jobs = JobRunner(self.thread_bridge)
        # Slides stay when the dock is closed, so their tiles have a bridge of their own.
        self.workbench = Workbench(
            napari_viewer, self.thread_bridge, tiles=MainThread(show_warning)
        )
        self.slide_bar = SlideBar(self.workbench)
        self.annotate = AnnotateTab(self.workbench, self.jobs)
        self.automate = AutomateTab(self.workbench, self.jobs, self.thread_bridge)
        self.review = ReviewTab(self.jobs)
        self.learn = LearnTab(self.workbench, self.jobs, self.thread_bridge)
        self.exchange = ExchangeTab(self.jobs)
        self.tabs = QTabWidget()
        self.tabs.addTab(_scrolling(self.annotate), "Annotate")
        self.tabs.addTab(_scrolling(self.automate), "Automate")
        self.tabs.addTab(_scrolling(self.review), "Review")
        self.tabs.addTab(_scrolling(self.learn), "Learn")
        self.tabs.addTab(_scrolling(self.exchange), "Exchange")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 0)
        layout.addWidget(self.slide_bar)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.status)
        self.setMinimumWidth(360)
        self._shortcuts: list[QShortcut] = []
        self.slide_bar.open_requested.connect(self.open_slide)
        self.slide_bar.adopt_requested.connect(self._work_on)
        self.slide_bar.scale_given.connect(self._set_scale)
        self.slide_bar.take_over_requested.connect(self._take_over)
        self.learn.models_changed.connect(self._on_models)
        self.learn.predict_requested.connect(self._predict_with)
        self.learn.heat_requested.connect(self._map_heat)
        self.automate.review_requested.connect(self._review_run)
        for tab in (self.annotate, self.automate, self.review, self.learn, self.exchange):
            tab.said.connect(self.say)
            tab.job_started.connect(self.status.follow)
        self.workbench.said.connect(self.say)
        self.workbench.slides_changed.connect(self._on_slides)
        self.workbench.controller_changed.connect(self._on_controller)
        self._on_controller(self.workbench.controller)

    def say(self, text: str) -> None:
        """Show a sentence in the last line."""
        self.status.say(text)

    def open_slide(self, path: str) -> None:
        """Open a slide; the reading of its head runs in the background."""
        from napari_histosam.slide import open_slide

        running = self.jobs.start(
            f"Opening {Path(path).name}", lambda report, cancel: open_slide(path)
        )
        running.finished.connect(self._show)
        self.status.follow(running)

    def end(self) -> None:
        """Let go of viewer, threads and files; called when the dock is closed."""
        if self._closed:
            return
        self._closed = True
        self.thread_bridge.close()
        self.learn.end()
        self.automate.end()
        self.workbench.close()
        self.status.end()
        # Jobs are asked to stop at once; a window that closes does not wait until they have.
        threading.Thread(target=self.jobs.close, name="histosam-let-go").start()

    def event(self, event: QEvent) -> bool:
        """End the session when the dock is closed.

        napari's close button sends no close event to the widget inside: it takes its parent away.
        """
        kind = event.type()
        if kind == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.end()
                self.deleteLater()
        elif kind == QEvent.Type.Show and isinstance(self.window(), QMainWindow):
            self.window().installEventFilter(self)
        elif kind in (QEvent.Type.Close, QEvent.Type.DeferredDelete):
            self.end()
        return super().event(event)

    def eventFilter(self, window: QObject, event: QEvent) -> bool:
        """End the session when napari's whole window is closed, unless the user thinks again."""
        if event.type() == QEvent.Type.Close:
            self._window_closing = True
        elif event.type() == QEvent.Type.Hide and self._window_closing:
            self.end()
        return False

    @told
    def _show(self, slide: Any) -> None:
        self.workbench.show(slide)

    def _on_slides(self) -> None:
        if not self._closed:
            self.slide_bar.refresh_slides()

    def _on_models(self) -> None:
        self.annotate.model.refresh(self.workbench.model)
        self.annotate.compare.refresh()
        self.automate.refresh_models()

    def _predict_with(self, model: str) -> None:
        self._show_tab("Automate")
        self.automate.choose(model)

    def _map_heat(self, model: str) -> None:
        self._show_tab("Automate")
        self.automate.choose(model, heat=True)
        self.say(f"Start maps the heat of {model} over the whole slide.")

    def _show_tab(self, title: str) -> None:
        titles = [self.tabs.tabText(i) for i in range(self.tabs.count())]
        self.tabs.setCurrentIndex(titles.index(title))

    def _review_run(self, ids: Any) -> None:
        self._show_tab("Review")
        self.review.review_run(ids)

    def _on_controller(self, controller: Controller | None) -> None:
        if self._closed:
            return
        for part in (
            self.slide_bar,
            self.annotate,
            self.automate,
            self.review,
            self.learn,
            self.exchange,
        ):
            part.show_controller(controller)
        self._bind(controller)

    def _bind(self, controller: Controller | None) -> None:
        """Give the dock the canvas's keys, so that they work wherever the focus is."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts = []
        if controller is None:
            return
        for key, do in actions(controller).items():
            sequence = QKeySequence(key.replace("Control", "Ctrl").replace("-", "+"))
            shortcut = QShortcut(sequence, self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda do=do: do())
            self._shortcuts.append(shortcut)

    def _work_on(self, layer: Any) -> None:
        self._begin(layer)
        # The list shows what is at work, also where the user's choice was refused.
        self.slide_bar.refresh_slides()

    @told
    def _begin(self, layer: Any) -> None:
        if layer.metadata.get("histosam_slide") is None:
            self.workbench.adopt(layer)
        else:
            self.workbench.work_on(layer)

    @told
    def _take_over(self) -> None:
        self.workbench.take_over()

    @told
    def _set_scale(self, x: float, y: float) -> None:
        self.workbench.set_mpp(x, y)
        self.say(f"Scale set to {x:g} x {y:g} µm per pixel; it is remembered.")


def _scrolling(widget: QWidget) -> QScrollArea:
    """Return the widget in a frame that scrolls on small screens."""
    area = QScrollArea()
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
