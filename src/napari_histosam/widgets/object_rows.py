"""The rows of the object table: pages from the store, read when they come into view."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, Qt

from napari_histosam.store.table import Listing
from napari_histosam.widgets.parts import chip, micrometres2, number

if TYPE_CHECKING:
    from qtpy.QtCore import QModelIndex, QPersistentModelIndex

    from napari_histosam.store import ObjectStore
    from napari_histosam.store import Row as StoreRow

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
