"""The classes: choose the one for the next object, add, rename, recolour and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]  # qtpy gives Signal at run time
    QPoint,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QButtonGroup,
    QColorDialog,
    QInputDialog,
    QLabel,
    QMenu,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QFlowLayout

from napari_histosam.records import ObjectClass
from napari_histosam.viewer.attempt import told
from napari_histosam.widgets.parts import chip, tool_button

if TYPE_CHECKING:
    from qtpy.QtWidgets import QToolButton

    from napari_histosam.viewer.controller import Controller

KEYS = ("8", "9", "0")
FRESH = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189), (23, 190, 207)]


class ClassBar(QWidget):
    """One button per class; a right click on it has more."""

    said = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._controller: Controller | None = None
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._flow_host = QWidget()
        self._flow = QFlowLayout(self._flow_host)
        self._flow.setContentsMargins(0, 0, 0, 0)
        self._flow.setSpacing(3)
        self._flow_host.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(QLabel("Class"))
        layout.addWidget(self._flow_host)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.class_changed.disconnect(self._mark)
            self._controller.session.store.changed.disconnect(self._on_change)
        self._controller = controller
        if controller is not None:
            controller.session.class_changed.connect(self._mark)
            controller.session.store.changed.connect(self._on_change)
        self._build()

    def buttons(self) -> dict[str, QToolButton]:
        """Return the buttons by class name."""
        return {b.property("class_name"): b for b in self._group.buttons()}  # type: ignore[misc]

    def _build(self) -> None:
        for old in self._group.buttons():
            self._group.removeButton(old)
        while self._flow.count():
            item = self._flow.takeAt(0)
            shown = item.widget() if item is not None else None
            if shown is not None:
                shown.deleteLater()
        self.setEnabled(self._controller is not None)
        if self._controller is None:
            return
        for index, cls in enumerate(self._controller.session.store.classes()):
            key = f" ({KEYS[index]})" if index < len(KEYS) else ""
            made = tool_button(
                cls.name + key, f"Accept as {cls.name}; right click for more", checkable=True
            )
            made.setIcon(chip(cls.colour))
            made.setProperty("class_name", cls.name)
            made.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            made.customContextMenuRequested.connect(
                lambda at, cls=cls, made=made: self._menu(cls, made, at)
            )
            made.clicked.connect(lambda _c=False, name=cls.name: self._choose(name))
            self._group.addButton(made)
            self._flow.addWidget(made)
        add = tool_button("+", "Add a class")
        add.setEnabled(not self._controller.session.store.read_only)
        add.clicked.connect(lambda _c=False: self._ask_new())
        self._flow.addWidget(add)
        self._mark(self._controller.session.current_class)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    @told
    def _choose(self, name: str) -> None:
        if self._controller is None:
            return
        session = self._controller.session
        # A second click on the chosen class takes the choice back.
        session.set_class(None if session.current_class == name else name)

    def _mark(self, name: str | None) -> None:
        self._group.setExclusive(False)
        for class_name, made in self.buttons().items():
            made.setChecked(class_name == name)
        self._group.setExclusive(name is not None)

    def _on_change(self, change: Any) -> None:
        if not change.classes_changed or self._controller is None:
            return
        session = self._controller.session
        if session.current_class not in (None, *(c.name for c in session.store.classes())):
            self._follow(None)
        self._build()

    @told
    def add_class(self, name: str) -> None:
        """Add a class with a colour of its own and choose it; one of that name is just chosen."""
        name = name.strip()
        if self._controller is None or not name:
            return
        session = self._controller.session
        known = session.store.classes()
        if name not in {c.name for c in known}:
            used = {c.colour for c in known}
            colour = next((c for c in FRESH if c not in used), (200, 200, 60))
            session.store.put_class(ObjectClass(name, colour))
        session.set_class(name)

    def _ask_new(self) -> None:
        name, good = QInputDialog.getText(self, "Add a class", "Name of the class")
        if good:
            self.add_class(name)

    def _menu(self, cls: ObjectClass, made: QToolButton, at: QPoint) -> None:
        if self._controller is None or self._controller.session.store.read_only:
            return
        menu = QMenu(self)
        menu.addAction("Rename…", lambda: self._ask_name(cls))
        menu.addAction("Colour…", lambda: self._ask_colour(cls))
        menu.addAction("Delete", lambda: self.delete(cls.name))
        menu.exec(made.mapToGlobal(at))
        menu.deleteLater()

    def _ask_name(self, cls: ObjectClass) -> None:
        name, good = QInputDialog.getText(self, "Rename the class", "New name", text=cls.name)
        if good:
            self.change(cls.name, ObjectClass(name.strip(), cls.colour))

    def _ask_colour(self, cls: ObjectClass) -> None:
        colour = QColorDialog.getColor(QColor(*cls.colour), self, f"Colour of {cls.name}")
        if colour.isValid():
            new = (colour.red(), colour.green(), colour.blue())
            self.change(cls.name, ObjectClass(cls.name, new))

    @told
    def change(self, name: str, new: ObjectClass) -> None:
        """Rename or recolour a class; its objects stay in it."""
        if self._controller is None:
            return
        session = self._controller.session
        chosen = session.current_class == name
        session.store.put_class(new, name)
        if chosen:
            self._follow(new.name)

    @told
    def delete(self, name: str) -> None:
        """Delete a class; its objects become unclassified."""
        if self._controller is None:
            return
        session = self._controller.session
        session.store.delete_class(name)
        self.say(f"The class {name} is gone and its objects are unclassified; undo brings it back.")

    def _follow(self, name: str | None) -> None:
        """Take over the chosen class's new name; the selected objects keep theirs."""
        if self._controller is not None:
            self._controller.session.current_class = name
            self._controller.session.class_changed.emit(name)
