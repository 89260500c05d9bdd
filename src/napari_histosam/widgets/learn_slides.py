"""What there is to learn from: slides with their objects by class, and whether they suffice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import (
    QFileDialog,
    QGroupBox,
    QHeaderView,
    QSizePolicy,
    QStyledItemDelegate,
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
PATIENT = 3
FAINT = "#7d8590"
PATIENT_TIP = (
    "Click to write whose slide it is; slides of one patient are kept together, so that a model is "
    "never judged on a patient it has learned from.\nAny name or number will do; it stays on this "
    "computer, with the slide's objects."
)
REGION_TIP = (
    "Says that every object of the area on screen is labelled, so that the rest is background."
    "\nIt becomes an object of the class Region*, which can be undone, edited and deleted.\nA "
    "model that answers clicks and boxes learns without; what finds objects by itself needs it."
)


class SlidesBox(QGroupBox):
    """The slides to learn from.

    Parameters
    ----------
    shelf : Shelf
    add : callable of list of Path
        Adds slides, and tells what is wrong with them.
    name_patient : callable of (str, str)
        Keeps a slide's patient, by the slide's key.
    mark_region : callable
        Marks what is on screen as fully labelled.
    """

    _patient_named = Signal(str, str)

    def __init__(
        self,
        shelf: Shelf,
        add: Callable[[list[Path]], object],
        name_patient: Callable[[str, str], object],
        mark_region: Callable[[], object],
    ) -> None:
        super().__init__("What to learn from")
        self._shelf, self._add = shelf, add
        # Later, since a list must not be rebuilt while its editor closes.
        self._patient_named.connect(name_patient, Qt.ConnectionType.QueuedConnection)
        self._colours: dict[str, Colour] = {}
        self._shown: object = None
        self._filling = False
        self.view = _Tree()
        self.view.itemChanged.connect(self._changed)
        # What came while somebody wrote is listed once they are done.
        self.view.patients.closeEditor.connect(self.refresh, Qt.ConnectionType.QueuedConnection)
        self.add_button = button(
            "Add slides…", "Learn from the objects of further slides, too", self._ask
        )
        self.region_button = button("Mark view as fully labelled", REGION_TIP, mark_region)
        self.advice = note()
        layout = QVBoxLayout(self)
        layout.addWidget(self.view)
        layout.addLayout(row(self.add_button, self.region_button, stretch=True))
        layout.addWidget(self.advice)
        shelf.changed.connect(self.refresh)
        self.refresh()

    def show_colours(self, colours: Iterable[Any]) -> None:
        """Take the classes whose colours are used."""
        self._colours = {one.name: one.colour for one in (*DEFAULT_CLASSES, *colours)}

    def refresh(self, *_: Any) -> None:
        """Show what the shelf holds now."""
        wanted = (list(self._shelf.slides), dict(self._colours))
        if wanted != self._shown and not self.view.editing:
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
            last = item.child(item.childCount() - 1)
            if one.regions and last is not None:
                # It has no figures, and needs the room of them.
                last.setFirstColumnSpanned(True)
        self.view.fit()
        self._filling = False

    def _item(self, one: Teaching) -> QTreeWidgetItem:
        counts = [number(one.count), number(one.count_corrected)]
        item = QTreeWidgetItem([one.name, *counts, one.patient])
        item.setData(0, KEY, one.key)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        item.setToolTip(PATIENT, PATIENT_TIP)
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
        if one.regions:
            areas = f"{one.regions} fully labelled area{'s' * (one.regions != 1)}"
            part = QTreeWidgetItem([areas])
            part.setToolTip(0, REGION_TIP)
            part.setFlags(Qt.ItemFlag.ItemIsEnabled)
            item.addChild(part)
        _to_the_right(item)
        return item

    def _changed(self, item: QTreeWidgetItem, column: int) -> None:
        if self._filling or item.parent() is not None:
            return
        if column == PATIENT:
            # What is shown may not become what is kept, so it is listed anew.
            self._shown = None
            self._patient_named.emit(item.data(0, KEY), item.text(PATIENT))
        elif column == 0:
            self._shelf.tick(item.data(0, KEY), item.checkState(0) == Qt.CheckState.Checked)

    def _ask(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Slides to learn from", "", OPENABLE)
        if paths:
            self._add([Path(path) for path in paths])


def _to_the_right(item: QTreeWidgetItem) -> None:
    for column in (1, 2):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
    item.setTextAlignment(PATIENT, Qt.AlignmentFlag.AlignHCenter)


class _Patient(QStyledItemDelegate):
    """Shows where a patient can be written."""

    def initStyleOption(self, option: Any, index: Any) -> None:
        """Show a faint word where nothing was written yet."""
        super().initStyleOption(option, index)
        if not index.parent().isValid() and not option.text:
            option.text = "add…"
            option.palette.setColor(QPalette.ColorRole.Text, QColor(FAINT))


class _Tree(QTreeWidget):
    """A list of slides that is as high as its content, up to a limit."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = 1
        self.setColumnCount(4)
        self.setHeaderLabels(["Slide", "Objects", "Corrected", "Patient"])
        self.patients = _Patient(self)
        self.setItemDelegateForColumn(PATIENT, self.patients)
        self.setEditTriggers(QTreeWidget.EditTrigger.NoEditTriggers)
        self.itemClicked.connect(self._clicked)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2, PATIENT):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        head = self.headerItem()
        head.setToolTip(2, "Objects whose outline differs from the model's first answer")
        head.setToolTip(PATIENT, PATIENT_TIP)
        _to_the_right(head)
        self.setRootIsDecorated(True)
        self.setIndentation(12)
        # Names of slides mostly differ at their end.
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.itemExpanded.connect(self.fit)
        self.itemCollapsed.connect(self.fit)

    @property
    def editing(self) -> bool:
        """Whether somebody is writing into the list."""
        return self.state() == QTreeWidget.State.EditingState

    def _clicked(self, item: QTreeWidgetItem, column: int) -> None:
        if column == PATIENT and item.parent() is None and not item.isDisabled():
            self.editItem(item, PATIENT)

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
