"""The object under review: why it is shown, what is known of it, and the buttons to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QGroupBox, QLabel, QVBoxLayout, QWidget

from napari_histosam.viewer.attempt import attempt
from napari_histosam.widgets.parts import (
    PRIMARY_STYLE,
    button,
    chip,
    choice,
    label,
    micrometres2,
    note,
    number,
    row,
)

if TYPE_CHECKING:
    from napari_histosam.records import SlideObject
    from napari_histosam.session.review import Entry
    from napari_histosam.viewer.controller import Controller

PLAIN = "Nothing unusual about this one."
DONE = "That was the last one. Sort again to see whether anything is left."
EDITING = (
    "Click adds, Shift+click takes away, the brush (K) paints. N keeps the new outline, "
    "Esc leaves the old one."
)
ELSEWHERE = "Another object or mask is in hand; finish it, or go back to this one with Show it."


class ReviewCard(QGroupBox):
    """Reason, facts and decisions."""

    def __init__(self) -> None:
        super().__init__("Object")
        self._controller: Controller | None = None
        self._filling = False
        self.reason = QLabel()
        self.reason.setWordWrap(True)
        self.reason.setStyleSheet("font-weight: bold;")
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.hint = note()
        self.accept = button("Accept (N)", "It is right as it is (N or Enter)", self._accept)
        self.accept.setStyleSheet(PRIMARY_STYLE)
        self.reject = button(
            "Reject (Del)",
            "It is no such object: it goes, and is remembered as a mistake (Delete)",
            self._reject,
        )
        self.edit = button(
            "Edit (G)", "Correct its outline with clicks or the brush (G)", self._edit
        )
        self.back = button("Back", "Show the one before", lambda: self._do("back"))
        self.later = button("Later (J)", "Leave it as it is and go on (J)", self._later)
        self.show_it = button("Show it", "Move the view back to it", lambda: self._do("show"))
        self.classes = choice("Give it another class (8, 9, 0 for the first three)")
        self.classes.activated.connect(self._classify)
        self.buttons = QWidget()
        inner = QVBoxLayout(self.buttons)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addLayout(row(self.accept, self.reject, self.edit))
        inner.addLayout(row(self.back, self.later, self.show_it))
        inner.addLayout(row(label("Class"), self.classes))
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        for part in (self.reason, self.facts, self.buttons, self.hint):
            layout.addWidget(part)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        self._controller = controller
        self.list_classes()
        self.update_card()

    def list_classes(self) -> None:
        """Offer the store's classes."""
        self._filling = True
        self.classes.clear()
        if self._controller is not None:
            for cls in self._controller.session.store.classes():
                self.classes.addItem(chip(cls.colour, 10), cls.name, cls.name)
            self.classes.addItem("unclassified", None)
        self._filling = False

    def update_card(self) -> None:
        """Show the object at hand."""
        walk = self._controller.review if self._controller is not None else None
        self.setVisible(walk is not None and walk.begun)
        if walk is None or self._controller is None or not walk.begun:
            return
        now, store = walk.current, self._controller.session.store
        found = store.get_many([now.id]) if now is not None else []
        count = len(walk)
        self.buttons.setVisible(count > 0)
        self.facts.setVisible(bool(found))
        self.setTitle(f"{number(min(walk.position + 1, count))} / {number(count)}")
        if now is None or not found:
            self.setTitle(f"{number(count)} / {number(count)}" if count else "Nothing to review")
            self.reason.setText(DONE if count else "No object fits what is chosen above.")
            self.hint.setText("")
        else:
            self.reason.setText(_sentence(now.reason) or PLAIN)
            self.facts.setText(self._facts(now, found[0]))
            self._mark(found[0].class_name)
            busy = walk.active and not walk.in_hand
            self.hint.setText(EDITING if walk.editing else ELSEWHERE if busy else "")
        self.hint.setVisible(bool(self.hint.text()))
        free = walk.in_hand and not store.read_only
        self.accept.setEnabled(free or (walk.editing and not store.read_only))
        self.reject.setEnabled(free)
        self.edit.setEnabled(free)
        self.classes.setEnabled(free)
        self.later.setEnabled(walk.in_hand)
        self.back.setEnabled(walk.position > 0 and not walk.editing)
        self.show_it.setEnabled(now is not None)

    def _facts(self, now: Entry, found: SlideObject) -> str:
        assert self._controller is not None
        mpp = self._controller.session.slide.mpp
        area = found.geometry.area
        parts = [found.class_name or "unclassified", found.provenance.source]
        parts.append(f"{number(area)} px²" if mpp is None else micrometres2(area * mpp[0] * mpp[1]))
        if now.score is not None:
            parts.append(f"score {now.score:.2f}")
        parts.append(found.review.state if found.review else "not reviewed")
        if found.locked:
            parts.append("locked")
        return " · ".join(parts)

    def _mark(self, class_name: str | None) -> None:
        self._filling = True
        self.classes.setCurrentIndex(self.classes.findText(class_name or "unclassified"))
        self._filling = False

    def _accept(self) -> None:
        if self._controller is not None:
            self._controller.accept()

    def _reject(self) -> None:
        if self._controller is not None:
            self._controller.delete()

    def _edit(self) -> None:
        if self._controller is not None:
            self._controller.next_object()

    def _later(self) -> None:
        if self._controller is not None:
            self._controller.next_candidate()

    def _do(self, name: str) -> None:
        if self._controller is not None:
            attempt(getattr(self._controller.review, name), self._controller.say)

    def _classify(self, index: int) -> None:
        if self._filling or self._controller is None:
            return
        walk = self._controller.review
        chosen: Any = self.classes.itemData(index)
        attempt(lambda: walk.set_class(chosen), self._controller.say)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
