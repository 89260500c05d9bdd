"""Several models side by side: what each answers, how long it took, how far they agree."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QGroupBox,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_histosam.viewer.layers import ENTRANTS
from napari_histosam.widgets.parts import chip, note, tool_button

if TYPE_CHECKING:
    from qtpy.QtWidgets import QToolButton

    from napari_histosam.session.comparison import Comparison, Entrant
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench

HINT = "Each prompt is answered by the chosen models, too. Take the mask that fits best."
GREY = (120, 128, 140)


class CompareBox(QGroupBox):
    """Asks further models while it is switched on.

    Parameters
    ----------
    workbench : Workbench
    """

    def __init__(self, workbench: Workbench) -> None:
        super().__init__("Side by side")
        self._workbench = workbench
        self._controller: Controller | None = None
        self.setToolTip("Have every prompt answered by several models and take the best mask")
        self.setCheckable(True)
        self.setChecked(False)
        self.rows: dict[str, _Row] = {}
        self.body = QWidget()
        self.grid = QGridLayout()
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(4)
        self.grid.setVerticalSpacing(2)
        self.grid.setColumnStretch(1, 1)
        self.agreement = QLabel()
        self.agreement.setTextFormat(Qt.TextFormat.RichText)
        self.agreement.setWordWrap(True)
        inner = QVBoxLayout(self.body)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addWidget(note(HINT))
        inner.addLayout(self.grid)
        inner.addWidget(self.agreement)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.body)
        self.toggled.connect(self._on_toggled)
        self.body.hide()

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            session = self._controller.session
            session.comparison_changed.disconnect(self._update)
            session.preview_changed.disconnect(self._on_preview)
            session.model_changed.disconnect(self._on_model)
        self._controller = controller
        self.setEnabled(controller is not None)
        if controller is not None:
            session = controller.session
            session.comparison_changed.connect(self._update)
            session.preview_changed.connect(self._on_preview)
            session.model_changed.connect(self._on_model)
        if self.isChecked():
            self._list()
            self._ask()

    def refresh(self) -> None:
        """List the models that are ready now."""
        if self.isChecked():
            self._list()
            self._ask()

    def _on_toggled(self, on: bool) -> None:
        self.body.setVisible(on)
        if on:
            self._list()
        self._ask()

    def _list(self) -> None:
        """Make a row for every ready model, the one at work first."""
        chosen = {name: row.asked.isChecked() for name, row in self.rows.items()}
        while self.grid.count():
            item = self.grid.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        self.rows = {}
        for column, title in enumerate(("", "Model", "Time", "Score", "IoU", "")):
            head = QLabel(title)
            head.setStyleSheet("color: #a8b0ba;")
            self.grid.addWidget(head, 0, column)
        registry = self._workbench.registry
        at_work = self._at_work
        names = [
            card.name
            for card in registry.cards().values()
            if card.takes and registry.is_ready(card.name) and not registry.needs_consent(card.name)
        ]
        for name in sorted(names, key=lambda name: name != at_work):
            row = _Row(name, self, at_work=name == at_work, asked=chosen.get(name, True))
            row.place(self.grid, len(self.rows) + 1)
            self.rows[name] = row
        self._update(self._comparison)

    @property
    def _at_work(self) -> str:
        return self._controller.session.card.name if self._controller else self._workbench.model

    @property
    def _comparison(self) -> Comparison | None:
        return self._controller.session.comparison if self._controller else None

    def ask(self) -> None:
        """Have the chosen models asked."""
        self._ask()

    def outline(self, name: str, shown: bool) -> None:
        """Draw a model's outline, or leave it away."""
        if self._controller is not None:
            self._controller.outline(name, shown=shown)

    def take(self, name: str) -> None:
        """Take a model's mask in hand."""
        if self._controller is not None:
            self._controller.take(name)

    def _ask(self) -> None:
        if self._controller is None:
            return
        names = [name for name, row in self.rows.items() if row.asked.isChecked()]
        self._controller.compare(names if self.isChecked() else [])

    def _on_model(self, _card: Any) -> None:
        self.refresh()

    def _on_preview(self, _preview: Any) -> None:
        self._update(self._comparison)

    def _update(self, comparison: Comparison | None) -> None:
        in_hand = self._in_hand()
        entrants = comparison.entrants if comparison is not None else ()
        places = {one.model: place for place, one in enumerate(entrants)}
        found = None if comparison is None else comparison.agreement()
        for name, row in self.rows.items():
            place = places.get(name)
            if place is None or comparison is None:
                row.show_nothing()
                continue
            mine = places.get(in_hand) if in_hand else None
            iou = np.nan if found is None or mine is None else float(found[mine, place])
            row.show_entrant(comparison.entrants[place], place, iou, in_hand == name)
        self.agreement.setText(_matrix(comparison) if len(entrants) > 2 else "")
        self.agreement.setVisible(len(entrants) > 2)

    def _in_hand(self) -> str | None:
        found = self._controller.session.active if self._controller else None
        return None if found is None else found[1].model


class _Row:
    """One model: whether it is asked, its colour, what it answered."""

    def __init__(self, name: str, box: CompareBox, *, at_work: bool, asked: bool) -> None:
        self.name = name
        self.eye: QToolButton = tool_button("", "Show or hide this outline", checkable=True)
        self.eye.setChecked(True)
        self.eye.setStyleSheet("QToolButton { padding: 0px; background: transparent; }")
        self.eye.setFixedSize(22, 22)
        self.eye.toggled.connect(lambda on: box.outline(name, on))
        self.asked = QCheckBox(name)
        self.asked.setChecked(asked or at_work)
        self.asked.setEnabled(not at_work)
        what = "the model at work" if at_work else "ask this model, too"
        self.asked.setToolTip(f"{name}: {what}")
        # Long names are cut off; the dock keeps its width.
        self.asked.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.asked.setMinimumWidth(84)
        self.asked.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.asked.toggled.connect(lambda _on: box.ask())
        self.time, self.score, self.iou = QLabel(), QLabel(), QLabel()
        for cell in (self.time, self.score, self.iou):
            cell.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.take: QToolButton = tool_button("Take", f"Take the mask of {name} in hand")
        self.take.setStyleSheet("QToolButton { padding: 2px 4px; }")
        self.take.clicked.connect(lambda _checked=False: box.take(name))
        self.show_nothing()

    def place(self, grid: QGridLayout, row: int) -> None:
        """Put the row's parts into a grid."""
        parts = (self.eye, self.asked, self.time, self.score, self.iou, self.take)
        for column, part in enumerate(parts):
            grid.addWidget(part, row, column)

    def show_nothing(self) -> None:
        """Say that it has not been asked."""
        self._fill("", "", "")
        self.eye.setIcon(chip(GREY))
        self.take.setEnabled(False)

    def show_entrant(self, entrant: Entrant, place: int, iou: float, in_hand: bool) -> None:
        """Say what it answered; ``iou`` is that with the mask in hand."""
        colour = QColor(ENTRANTS[place % len(ENTRANTS)])
        self.eye.setIcon(chip((colour.red(), colour.green(), colour.blue())))
        self.take.setEnabled(entrant.shown is not None and not in_hand)
        if entrant.trouble:
            self._fill("no answer", "", "", entrant.trouble)
        elif entrant.shown is None:
            self._fill("…", "", "", "The answer is on its way")
        else:
            spent = f"encoding {entrant.encode_ms:.0f} ms, decoding {entrant.decode_ms:.0f} ms"
            shown = "shown" if in_hand else "" if np.isnan(iou) else f"{iou:.2f}"
            empty = entrant.shown.geometry is None
            score = "empty" if empty else f"{entrant.shown.score:.2f}"
            self._fill(_time(entrant.encode_ms + entrant.decode_ms), score, shown, spent)

    def _fill(self, time: str, score: str, iou: str, tip: str = "") -> None:
        for cell, text in ((self.time, time), (self.score, score), (self.iou, iou)):
            cell.setText(text)
            cell.setToolTip(tip)


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _matrix(comparison: Comparison | None) -> str:
    """Return the IoU of every two masks as a small table."""
    if comparison is None:
        return ""
    found = comparison.agreement()
    dots = [
        f'<td align="center"><span style="color:{ENTRANTS[k % len(ENTRANTS)]}">●</span></td>'
        for k in range(len(found))
    ]
    lines = [f"<tr><td></td>{''.join(dots)}</tr>"]
    for row, one in enumerate(comparison.entrants):
        cells = "".join(
            f'<td align="right">{_cell(found[row, column], row == column)}</td>'
            for column in range(len(found))
        )
        lines.append(f"<tr>{dots[row]}{cells}<td>&nbsp;{escape(one.model)}</td></tr>")
    return f'IoU of every two masks<table cellspacing="4">{"".join(lines)}</table>'


def _cell(value: float, own: bool) -> str:
    return "" if own or np.isnan(value) else f"{value:.2f}"
