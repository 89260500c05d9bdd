"""The table of accepted objects: filter, select, fly to, change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QItemSelection, QItemSelectionModel, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.viewer.tools import Tool
from napari_histosam.widgets.object_rows import ObjectTableModel
from napari_histosam.widgets.parts import button, number, row

if TYPE_CHECKING:
    from qtpy.QtCore import QModelIndex

    from napari_histosam.viewer.controller import Controller


class ObjectTable(QWidget):
    """The list of objects with its filter and the buttons for what is selected."""

    def __init__(self) -> None:
        super().__init__()
        self._controller: Controller | None = None
        self._syncing = False
        self.title = QLabel()
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter by name, class, source")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._refilter)
        self.classes = QComboBox()
        self.classes.setToolTip("Show one class only")
        self.classes.currentIndexChanged.connect(self._refilter)
        self.model = ObjectTableModel()
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setSortingEnabled(True)
        self.view.sortByColumn(0, Qt.SortOrder.DescendingOrder)
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(22)
        self.view.setWordWrap(False)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(36)
        for column, width in {0: 46, 2: 76, 3: 50, 4: 76}.items():
            self.view.setColumnWidth(column, width)
        self.view.setMinimumHeight(130)
        self.view.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self.view.clicked.connect(self._fly)
        self.view.selectionModel().selectionChanged.connect(self._selected)
        self.refine = button(
            "Refine",
            "Hand the selected object to the model as a mask; then click to correct",
            self._do("refine"),
        )
        self.merge = button("Merge", "Unite the selected objects", self._do("merge"))
        self.cut = button("Cut", "Draw a line across the selected object", self._start_cut)
        self.delete = button("Delete", "Delete the selected objects (Del)", self._do("delete"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.title)
        layout.addLayout(row(self.filter, self.classes))
        layout.addLayout(row(self.refine, self.merge, self.cut, self.delete))
        layout.addWidget(self.view, 1)
        self.show_controller(None)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.store.changed.disconnect(self._on_change)
            self._controller.session.objects.selection_changed.disconnect(self._on_selection)
        self._controller = controller
        self.setEnabled(controller is not None)
        if controller is None:
            self.model.show_store(None, None)
        else:
            session = controller.session
            session.store.changed.connect(self._on_change)
            session.objects.selection_changed.connect(self._on_selection)
            self.model.show_store(session.store, session.slide.mpp)
        self._list_classes()
        self._update()

    def _list_classes(self) -> None:
        self._syncing = True
        before = self.classes.currentText()
        self.classes.clear()
        self.classes.addItem("All classes", ...)
        if self._controller is not None:
            for cls in self._controller.session.store.classes():
                self.classes.addItem(cls.name, cls.name)
            self.classes.addItem("unclassified", None)
        self.classes.setCurrentIndex(max(0, self.classes.findText(before)))
        self._syncing = False

    def _refilter(self, *_: Any) -> None:
        if self._syncing:
            return
        # Qt hands the user data None back as it is, so the row tells "all" from "unclassified".
        chosen: Any = ... if self.classes.currentIndex() <= 0 else self.classes.currentData()
        self.model.listing = replace(
            self.model.listing, text=self.filter.text().strip(), class_name=chosen
        )
        self._reload()

    def _on_change(self, change: Any) -> None:
        if change.classes_changed:
            self._list_classes()
        self._reload()

    def _reload(self) -> None:
        at = self.view.verticalScrollBar().value()
        self.model.reload()
        self.view.verticalScrollBar().setValue(at)
        if self._controller is not None:
            self._on_selection(self._controller.session.objects.selection)
        self._update()

    def _selected(self, _on: QItemSelection, _off: QItemSelection) -> None:
        if self._syncing or self._controller is None:
            return
        found = [self.model.row(i.row()) for i in self.view.selectionModel().selectedRows()]
        self._syncing = True
        self._controller.session.objects.select(r.id for r in found if r is not None)
        self._syncing = False
        self._update()

    def _on_selection(self, ids: tuple[str, ...]) -> None:
        self._update()
        if self._syncing or self._controller is None:
            return
        self._syncing = True
        chosen = QItemSelection()
        last = None
        for key in ids[:500]:
            at = self.model.position(key)
            if at is not None:
                last = self.model.index(at, 0)
                chosen.select(last, self.model.index(at, self.model.columnCount() - 1))
        self.view.selectionModel().select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if last is not None:
            self.view.scrollTo(last)
        self._syncing = False

    def _fly(self, index: QModelIndex) -> None:
        found = self.model.row(index.row())
        if found is None or self._controller is None:
            return
        if len(self.view.selectionModel().selectedRows()) <= 1:
            self._controller.fly_to(found.id)

    def _start_cut(self) -> None:
        if self._controller is not None:
            self._controller.set_tool(Tool.CUT)

    def _do(self, name: str) -> Any:
        def do() -> None:
            if self._controller is not None:
                getattr(self._controller, name)()

        return do

    def _update(self) -> None:
        if self._controller is None:
            self.title.setText("Objects")
            return
        session = self._controller.session
        shown, every = self.model.rowCount(), session.store.count()
        some = number(every) if shown == every else f"{number(shown)} of {number(every)}"
        self.title.setText(f"Objects · {some}" if every else "Objects · none yet: accept a mask")
        count = len(session.objects.selection)
        writable = not session.store.read_only
        self.refine.setEnabled(count == 1 and writable)
        self.cut.setEnabled(count >= 1 and writable)
        self.merge.setEnabled(count >= 2 and writable)
        self.delete.setEnabled(count >= 1 and writable)
