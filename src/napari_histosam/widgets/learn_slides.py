"""What there is to learn from: slides with their objects by class, and whether they suffice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGroupBox,
    QHeaderView,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
)

from napari_histosam.store import DEFAULT_CLASSES, UNCLASSIFIED_COLOUR
from napari_histosam.widgets.parts import button, chip, dotted, note, number, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.records import Colour
    from napari_histosam.viewer.learning.shelf import Shelf
    from napari_histosam.viewer.learning.sources import Teaching

LEVELS = {"no": "#9ca3af", "little": "#facc15", "good": "#22c55e"}
OPENABLE = (
    "Slides and stores (*.svs *.ndpi *.mrxs *.scn *.bif *.tif *.tiff *.dcm *.png *.jpg *.sqlite);;"
    "All files (*)"
)
KEY = Qt.ItemDataRole.UserRole
ROWS_SHOWN = 9


class SlidesBox(QGroupBox):
    """The slides to learn from.

    Parameters
    ----------
    shelf : Shelf
    add : callable of list of Path
        Adds slides, and tells what is wrong with them.
    """

    def __init__(self, shelf: Shelf, add: Callable[[list[Path]], object]) -> None:
        super().__init__("What to learn from")
        self._shelf, self._add = shelf, add
        self._colours: dict[str, Colour] = {}
        self._shown: object = None
        self._filling = False
        self.view = _Tree()
        self.view.itemChanged.connect(self._ticked)
        self.add_button = button(
            "Add slides…", "Learn from the objects of further slides, too", self._ask
        )
        self.advice = note()
        layout = QVBoxLayout(self)
        layout.addWidget(self.view)
        layout.addLayout(row(self.add_button, stretch=True))
        layout.addWidget(self.advice)
        shelf.changed.connect(self.refresh)
        self.refresh()

    def show_colours(self, colours: Iterable[Any]) -> None:
        """Take the classes whose colours are used."""
        self._colours = {one.name: one.colour for one in (*DEFAULT_CLASSES, *colours)}

    def refresh(self) -> None:
        """Show what the shelf holds now."""
        wanted = (list(self._shelf.slides), dict(self._colours))
        if wanted != self._shown:
            # Not for a tick alone: a list must not be rebuilt while it handles the click.
            self._shown = wanted
            self._list()
        advice = self._shelf.advice
        self.advice.setText(dotted(LEVELS[advice.level], advice.text))

    def _list(self) -> None:
        self._filling = True
        closed = {item.data(0, KEY) for item in self.view.slides() if not item.isExpanded()}
        self.view.clear()
        for one in self._shelf.slides:
            item = self._item(one)
            self.view.addTopLevelItem(item)
            item.setExpanded(one.key not in closed)
        self.view.fit()
        self._filling = False

    def _item(self, one: Teaching) -> QTreeWidgetItem:
        item = QTreeWidgetItem([one.name, number(one.count), number(one.count_corrected)])
        item.setData(0, KEY, one.key)
        item.setToolTip(0, f"{one.name}\n{one.path}")
        ticked = self._shelf.ticked(one.key) and one.count > 0
        item.setCheckState(0, Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        if not one.count:
            item.setDisabled(True)
        for name, count in sorted(one.objects.items(), key=lambda pair: -pair[1]):
            corrected = one.corrected.get(name, 0)
            part = QTreeWidgetItem([name or "unclassified", number(count), number(corrected)])
            colour = UNCLASSIFIED_COLOUR if name is None else self._colours.get(name)
            part.setIcon(0, chip(colour or UNCLASSIFIED_COLOUR, 10))
            part.setFlags(Qt.ItemFlag.ItemIsEnabled)
            item.addChild(part)
            _to_the_right(part)
        _to_the_right(item)
        return item

    def _ticked(self, item: QTreeWidgetItem, column: int) -> None:
        if not self._filling and column == 0 and item.parent() is None:
            self._shelf.tick(item.data(0, KEY), item.checkState(0) == Qt.CheckState.Checked)

    def _ask(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Slides to learn from", "", OPENABLE)
        if paths:
            self._add([Path(path) for path in paths])


def _to_the_right(item: QTreeWidgetItem) -> None:
    for column in (1, 2):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)


class _Tree(QTreeWidget):
    """A list of slides that is as high as its content, up to a limit."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = 1
        self.setColumnCount(3)
        self.setHeaderLabels(["Slide", "Objects", "Corrected"])
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        head = self.headerItem()
        head.setToolTip(2, "Objects whose outline differs from the model's first answer")
        _to_the_right(head)
        self.setRootIsDecorated(True)
        self.setIndentation(16)
        self.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.itemExpanded.connect(self.fit)
        self.itemCollapsed.connect(self.fit)

    def slides(self) -> list[QTreeWidgetItem]:
        """Return the items of slides."""
        found = [self.topLevelItem(i) for i in range(self.topLevelItemCount())]
        return [item for item in found if item is not None]

    def fit(self, *_: Any) -> None:
        """Take the height of what is listed."""
        shown = sum(1 + item.childCount() * item.isExpanded() for item in self.slides())
        self._rows = min(max(shown, 1), ROWS_SHOWN)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Ask for the height of the rows."""
        # Lines with a colour are a little higher than the first one, which has none.
        line = max(self.sizeHintForRow(0), self.fontMetrics().height()) + 3
        height = self.header().sizeHint().height() + self._rows * line + 2 * self.frameWidth() + 4
        return QSize(super().sizeHint().width(), height)
