"""The object in hand: what the model says of it, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QGroupBox, QLabel, QVBoxLayout

from napari_histosam.geometry.polygons import area_um2
from napari_histosam.widgets.parts import button, micrometres2, number, row

if TYPE_CHECKING:
    from napari_histosam.viewer.controller import Controller

MINUS = "\N{MINUS SIGN}"
EMPTY = "Click inside an object or drag a box around it."


class ObjectBox(QGroupBox):
    """Score and size of the previewed mask, and the buttons to keep or change it."""

    def __init__(self) -> None:
        super().__init__("This object")
        self._controller: Controller | None = None
        self._busy = ""
        self.facts = QLabel(EMPTY)
        self.facts.setWordWrap(True)
        self.accept = button("Accept (N)", "Keep the mask (N or Enter)", self._do("accept"))
        self.reject = button("Reject (Esc)", "Forget prompts and mask (Esc)", self._do("reject"))
        self.other = button(
            "Next mask (J)", "Show another of the model's masks (J)", self._do("next_candidate")
        )
        self.more = button(
            "+ Object (G)", "Prompt one more object before accepting (G)", self._do("next_object")
        )
        self.fill = button(
            "Fill holes",
            "Close the holes of the mask or the selected objects",
            self._do("fill_holes"),
        )
        self.smooth = button(
            "Smooth",
            "Round off small details of the mask or the selected objects",
            self._do("smooth"),
        )
        self.undo = button("Undo", "Take back the last prompt or edit (Ctrl+Z)", self._do("undo"))
        self.redo = button("Redo", "Do again what was taken back (Ctrl+Shift+Z)", self._do("redo"))
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.addWidget(self.facts)
        layout.addLayout(row(self.accept, self.reject))
        layout.addLayout(row(self.other, self.more))
        layout.addLayout(row(self.fill, self.smooth, self.undo, self.redo))
        self.show_controller(None)

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            session = self._controller.session
            session.preview_changed.disconnect(self._update)
            session.prompts_changed.disconnect(self._update)
            session.busy_changed.disconnect(self._on_busy)
            session.store.changed.disconnect(self._update)
            session.objects.selection_changed.disconnect(self._update)
        self._controller = controller
        self._busy = ""
        if controller is not None:
            session = controller.session
            session.preview_changed.connect(self._update)
            session.prompts_changed.connect(self._update)
            session.busy_changed.connect(self._on_busy)
            session.store.changed.connect(self._update)
            session.objects.selection_changed.connect(self._update)
        self._update()

    def _do(self, name: str) -> Any:
        def do() -> None:
            if self._controller is not None:
                getattr(self._controller, name)()

        return do

    def _on_busy(self, text: str) -> None:
        self._busy = text
        self._update()

    def _update(self, *_: Any) -> None:
        if self._controller is None:
            self.setEnabled(False)
            self.facts.setText("Open a slide to begin.")
            return
        session = self._controller.session
        writable = not session.store.read_only
        found = session.active
        selected = bool(session.objects.selection)
        self.setEnabled(True)
        self.facts.setText(self._describe())
        self.accept.setEnabled(found is not None and writable)
        self.reject.setEnabled(found is not None or len(session.prompts) > 0)
        self.other.setEnabled(found is not None and len(found[1].candidates.scores) > 1)
        self.more.setEnabled(found is not None)
        self.fill.setEnabled(found is not None or (selected and writable))
        self.smooth.setEnabled(found is not None or (selected and writable))
        self.undo.setEnabled(len(session.prompts) > 0 or (session.store.can_undo and writable))
        self.redo.setEnabled(session.prompts.can_redo or (session.store.can_redo and writable))

    def _describe(self) -> str:
        assert self._controller is not None
        session = self._controller.session
        found = session.active
        if found is None:
            return self._busy or EMPTY
        name, shown = found
        mine = [p for p in session.prompts.all() if p.object == name]
        parts = []
        for role, sign in (
            ("positive", "+"),
            ("negative", MINUS),
            ("box", " box"),
            ("mask", " mask"),
        ):
            count = sum(p.role == role for p in mine)
            if count:
                parts.append(f"{count}{sign}")
        parts.append(f"score {shown.score:.2f}")
        if shown.geometry is None:
            parts.append("empty mask")
        elif session.slide.mpp:
            parts.append(micrometres2(area_um2(shown.geometry, session.slide.mpp)))
        else:
            parts.append(f"{number(shown.geometry.area)} px²")
        count = len(shown.candidates.scores)
        if count > 1:
            parts.append(f"mask {shown.chosen + 1} of {count}")
        if shown.edited:
            parts.append("corrected")
        if shown.cut:
            parts.append("reaches the edge of what the model saw")
        if session.preview and len(session.preview.objects) > 1:
            parts.append(f"{len(session.preview.objects)} objects")
        text = " · ".join(parts)
        return f"{text} · {self._busy}" if self._busy else text
