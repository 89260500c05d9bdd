"""The table of accepted objects: pages from the store, filter, select, fly to, change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.store.table import Listing
from napari_histosam.viewer.tools import Tool
from napari_histosam.widgets.parts import button, chip, micrometres2, number, row

if TYPE_CHECKING:
    from qtpy.QtCore import QModelIndex, QPersistentModelIndex

    from napari_histosam.store import ObjectStore
    from napari_histosam.store import Row as StoreRow
    from napari_histosam.viewer.controller import Controller

    Index = QModelIndex | QPersistentModelIndex

PAGE = 200
COLUMNS = ("#", "Class", "Area", "Score", "Source")
ORDERS = ("number", "class", "area", "score", "source")
TO_THE_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class ObjectTableModel(QAbstractTableModel):
    """Rows of a store, read page by page when they come into view."""

    def __init__(self) -> None:
        super().__init__()
        self._store: ObjectStore | None = None
        self._mpp: tuple[float, float] | None = None
        self._pages: dict[int, list[StoreRow]] = {}
        self._count = 0
        self._chips: dict[str | None, Any] = {}
        self.listing = Listing(order_by="number", descending=True)

    def show_store(self, store: ObjectStore | None, mpp: tuple[float, float] | None) -> None:
        """List another store's objects; ``mpp`` turns areas into µm²."""
        self._store, self._mpp = store, mpp
        self.reload()

    def reload(self) -> None:
        """Forget all pages and count anew."""
        self.beginResetModel()
        self._pages.clear()
        self._count = 0
        self._chips = {}
        if self._store is not None:
            self._count = self._store.row_count(**self._only())
            self._chips = {c.name: chip(c.colour, 10) for c in self._store.classes()}
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:
        """Return how many objects are listed."""
        return 0 if parent is not None and parent.isValid() else self._count

    def columnCount(self, parent: Index | None = None) -> int:
        """Return how many columns there are."""
        return len(COLUMNS)

    def row(self, index: int) -> StoreRow | None:
        """Return one listed object."""
        if self._store is None or not 0 <= index < self._count:
            return None
        page, at = divmod(index, PAGE)
        if page not in self._pages:
            if len(self._pages) > 20:
                self._pages.clear()
            self._pages[page] = self._store.rows(
                page * PAGE, PAGE, self.listing.order_by, self.listing.descending, **self._only()
            )
        rows = self._pages[page]
        return rows[at] if at < len(rows) else None

    def position(self, key: str) -> int | None:
        """Return the row of an object, or None if it is not listed."""
        if self._store is None:
            return None
        order = (self.listing.order_by, self.listing.descending)
        return self._store.position_of(key, *order, **self._only())

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        column = index.column()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return TO_THE_RIGHT if column in (0, 2, 3) else None
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.DecorationRole):
            return None
        found = self.row(index.row())
        if found is None:
            return None
        if role == Qt.ItemDataRole.DecorationRole:
            return self._chips.get(found.class_name) if column == 1 else None
        return self._text(found, column)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """Return a column's title."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return None

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        down = order == Qt.SortOrder.DescendingOrder
        self.listing = replace(self.listing, order_by=ORDERS[column], descending=down)  # type: ignore[arg-type]
        self.reload()

    def _only(self) -> dict[str, Any]:
        """Return what the listing keeps, as the store's arguments."""
        return {"text": self.listing.text, "class_name": self.listing.class_name}

    def _text(self, found: StoreRow, column: int) -> str:
        if column == 0:
            return str(found.number)
        if column == 1:
            return found.class_name or "unclassified"
        if column == 2:
            if self._mpp is None:
                return f"{number(found.area_px)} px²"
            return micrometres2(found.area_px * self._mpp[0] * self._mpp[1])
        if column == 3:
            return "" if found.score is None else f"{found.score:.2f}"
        return found.source


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
        header.setStretchLastSection(True)
        for column, width in enumerate((40, 96, 76, 48)):
            self.view.setColumnWidth(column, width)
        self.view.setMinimumHeight(130)
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
                chosen.select(last, self.model.index(at, len(COLUMNS) - 1))
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
