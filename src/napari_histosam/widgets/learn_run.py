"""A training under way: how far it is, its curves, and the buttons that end it or go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # qtpy gives it at run time
from qtpy.QtWidgets import QGroupBox, QLabel, QProgressBar, QVBoxLayout

from napari_histosam.viewer.learning.follow import duration
from napari_histosam.widgets.learn_curves import Curves
from napari_histosam.widgets.parts import PRIMARY_STYLE, button, dotted, note, row

if TYPE_CHECKING:
    from napari_histosam.viewer.learning.follow import Snapshot
    from napari_histosam.viewer.learning.order import Order

COLOURS = {"paused": "#facc15", "stopped": "#9ca3af", "failed": "#ef4444", "lost": "#ef4444"}
WORKING, FINISHED = "#4c9be8", "#22c55e"
ENDS = "Pause: go on later. Finish now: keep the best so far. Stop: give this training up."
TITLES = {
    "starting": "Getting ready",
    "building": "Cutting windows around the objects",
    "preparing": "Preparing the windows",
    "comparing": "Comparing before and after on the slides held out",
    "halting": "Ending at the next step",
    "paused": "Paused",
    "stopped": "Given up",
    "finished": "Finished",
    "failed": "Failed",
    "lost": "Ended from outside",
}


class RunBox(QGroupBox):
    """How a training stands."""

    pause_requested = Signal()
    finish_requested = Signal()
    stop_requested = Signal()
    resume_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Progress")
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.state = note()
        self.bar = QProgressBar()
        self.pause = button(
            "Pause",
            "Ends at the next step and frees the machine; Resume goes on from there, any day",
            self.pause_requested.emit,
        )
        self.finish = button(
            "Finish now",
            "Ends at the next step and compares the best epoch so far with the base",
            self.finish_requested.emit,
        )
        self.stop = button(
            "Stop",
            "Gives this training up: no model is made of it, your objects stay as they are",
            self.stop_requested.emit,
        )
        self.ends = note(ENDS)
        self.resume = button(
            "Resume", "Go on from where it was kept last", self.resume_requested.emit
        )
        self.resume.setStyleSheet(PRIMARY_STYLE)
        self.curves = Curves()
        self.dice = note()
        self.notes = note()
        layout = QVBoxLayout(self)
        layout.addWidget(self.about)
        layout.addWidget(self.bar)
        layout.addWidget(self.state)
        layout.addLayout(row(self.resume, self.pause, self.finish, self.stop, stretch=True))
        layout.addWidget(self.ends)
        layout.addWidget(self.curves)
        layout.addWidget(self.dice)
        layout.addWidget(self.notes)

    def show_run(self, shown: Snapshot, order: Order) -> None:
        """Show how a training stands."""
        self.about.setText(order.about)
        colour = COLOURS.get(shown.state, FINISHED if shown.state == "finished" else WORKING)
        self.state.setText(dotted(colour, _sentence(shown, order)))
        self._show_bar(shown, order.epochs)
        self.pause.setVisible(shown.state in ("preparing", "training"))
        # Before an epoch has been learned there is nothing to finish with.
        self.finish.setVisible(shown.state == "training" and len(shown.epochs) > 1)
        self.stop.setVisible(shown.working and shown.state != "halting")
        self.ends.setVisible(self.finish.isVisibleTo(self))
        self.resume.setVisible(shown.state in ("paused", "stopped", "failed", "lost"))
        self.curves.setVisible(bool(shown.epochs or shown.steps))
        self.curves.show_run(shown, order.epochs)
        found = " · ".join(f"{name} {value:.2f}" for name, value in shown.dice.items())
        self.dice.setText(f"Dice at 1 click, by class: {found}")
        self.dice.setVisible(bool(found))
        self.notes.setText("\n".join(shown.notes))
        self.notes.setVisible(bool(shown.notes))

    def _show_bar(self, shown: Snapshot, epochs: int) -> None:
        self.bar.setVisible(shown.state not in ("finished", "failed"))
        known = shown.fraction is not None and shown.state != "comparing"
        if not known and shown.working:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * (shown.fraction or 0.0)))
        done = len(shown.epochs) - 1
        text = TITLES.get(shown.state, "")
        if shown.state == "training":
            text = f"Epoch {max(done, 0) + 1} of {epochs}"
            if shown.left is not None:
                text += f" · about {duration(shown.left)} left"
        self.bar.setFormat(text)


def _sentence(shown: Snapshot, order: Order) -> str:
    if shown.state == "training":
        return "Training beside the window; you can work on, or close it and come back."
    text = shown.message or TITLES.get(shown.state, "")
    # A bar that only says that something goes on has no room for words.
    if shown.state == "comparing" and shown.left:
        return f"{text} About {duration(shown.left)} left."
    if shown.state in ("building", "preparing") and order.expected is not None:
        return f"{text} About {duration(order.expected)} in all."
    return text
