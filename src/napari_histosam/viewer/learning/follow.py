"""Follows a training by its files: the state in one sentence, the curves, the time left."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari_histosam.viewer.learning.course import Course
    from napari_histosam.viewer.learning.launcher import Launcher

State = Literal[
    "starting",
    "building",
    "preparing",
    "training",
    "comparing",
    "halting",
    "paused",
    "stopped",
    "finished",
    "failed",
    "lost",
]
WORKING = ("starting", "building", "preparing", "training", "comparing", "halting")
_LOST = (
    "The training was ended from outside, perhaps for want of memory; your objects are safe, and "
    "Resume goes on from where it was kept last."
)
# Windows of fully labelled areas may hold no object, as they should: nothing to tell anyone.
_BACKGROUND = re.compile(r"shows? no object and (is|are) left out")
_HALTING = {
    "pause": "Pausing after this step.",
    "finish": "Ending after this step with the best epoch so far; then it is compared.",
    "stop": "Giving up after this step.",
}
# What commands say to a terminal, and what it means here.
_HERE = (
    ("Run the same command to go on.", "Resume goes on."),
    ("then run the same command to go on from the last checkpoint", "then press Resume"),
    ("run the same command again", "press Resume"),
    ("make room or choose another --out", "make room"),
    (" (--debug shows more)", "; the training's log.txt shows more"),
    (
        "No split for testing is named: before and after are measured on the images that also "
        "chose the best epoch.",
        "The slides held out also chose the best epoch, so before and after may flatter a little; "
        "with more slides, some are kept for the test alone.",
    ),
)


@dataclass(frozen=True)
class Snapshot:
    """How a training stands.

    Parameters
    ----------
    state : State
    message : str
        One sentence.
    fraction : float or None
        Of its epochs, 0 to 1; None while that is not known.
    left : float or None
        Seconds until the end, by the epochs that were; of the comparison as it was estimated.
    steps, epochs : tuple of dict
        Rows of progress as the trainer wrote them.
    notes : tuple of str
        What the trainer wants the user to know.
    """

    state: State
    message: str
    fraction: float | None = None
    left: float | None = None
    steps: tuple[dict[str, Any], ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def working(self) -> bool:
        """Whether a process is at work."""
        return self.state in WORKING

    @property
    def dice(self) -> dict[str, float]:
        """Dice of each class at the last epoch, where it is known."""
        last = self.epochs[-1].get("dice", {}) if self.epochs else {}
        return {name: value for name, value in last.items() if value is not None}


class Follower:
    """Reads a training's files again and again, only what is new.

    Parameters
    ----------
    course : Course
    launcher : Launcher
        Knows whether a process is alive.
    """

    def __init__(self, course: Course, launcher: Launcher) -> None:
        self.course = course
        self._launcher = launcher
        self._file = course.run / "progress.jsonl"
        self._read: tuple[int, int] = (0, 0)
        self._rows: list[dict[str, Any]] = []
        self._order = course.read("order")

    def look(self) -> Snapshot:
        """Return how the training stands now."""
        # First whether it lives, then what it wrote: so its last words are never missed.
        alive = self._launcher.alive(self.course)
        said, run = self.course.read("course"), self.course.read("run/run")
        self._read_rows()
        steps = tuple(row for row in self._rows if row.get("kind") == "step")
        epochs = tuple(row for row in self._rows if row.get("kind") == "epoch")
        state, message = _state(alive, said, run, self.course.halted, bool(self._rows))
        return Snapshot(
            state,
            _plain(message),
            _fraction(state, self._rows),
            self._left(state, epochs, run),
            steps,
            epochs,
            tuple(_plain(note) for note in run.get("notes", ()) if not _BACKGROUND.search(note)),
        )

    def _left(
        self, state: State, epochs: tuple[dict[str, Any], ...], run: dict[str, Any]
    ) -> float | None:
        comparison = self._order.get("comparison")
        if state == "training":
            left = _left(self._rows, epochs)
            return None if left is None else left + (comparison or 0.0)
        if state == "comparing" and comparison is not None:
            return max(comparison - _since(run.get("updated")), 0.0)
        return None

    def _read_rows(self) -> None:
        try:
            about = self._file.stat()
        except OSError:
            self._rows, self._read = [], (0, 0)
            return
        inode, offset = self._read
        if about.st_ino != inode or about.st_size < offset:
            # A run that goes on drops the rows of steps that it will do again.
            self._rows, offset = [], 0
        if about.st_size > offset:
            with contextlib.suppress(OSError), self._file.open("rb") as file:
                file.seek(offset)
                whole, _, _rest = file.read().rpartition(b"\n")
                for line in whole.splitlines():
                    with contextlib.suppress(ValueError):
                        self._rows.append(json.loads(line))
                offset += len(whole) + (1 if whole else 0)
        self._read = about.st_ino, offset


def _state(
    alive: bool, said: dict[str, Any], run: dict[str, Any], halted: str, steps: bool
) -> tuple[State, str]:
    stage, message = said.get("stage", "starting"), str(said.get("message", ""))
    if stage == "finished":
        return "finished", message
    if alive:
        if halted in _HALTING and run.get("state") != "done":
            return "halting", _HALTING[halted]
        if stage == "dataset":
            return "building", "Cutting windows around your objects."
        if stage == "train" and run:
            if run.get("state") == "done":
                return "comparing", "Comparing with the base on the slides held out."
            return ("training" if steps else "preparing"), str(run.get("message", ""))
        return ("preparing" if stage == "train" else "starting"), "The training is getting ready."
    if stage == "failed":
        return "failed", message
    if halted == "stop":
        return "stopped", "Given up; Resume would go on from where it was."
    if halted == "pause" or stage == "paused":
        return "paused", "Paused; Resume goes on from where it was."
    return "lost", _LOST


def _fraction(state: State, rows: list[dict[str, Any]]) -> float | None:
    if state in ("finished", "comparing"):
        return 1.0
    if not rows or state in ("starting", "building", "preparing"):
        return None
    return float(rows[-1]["step"]) / max(float(rows[-1]["steps"]), 1.0)


def _left(rows: list[dict[str, Any]], epochs: tuple[dict[str, Any], ...]) -> float | None:
    """Return the seconds that the steps to come take, at the pace of those that were."""
    since = epochs[0] if epochs else rows[0]
    last = rows[-1]
    done = last["step"] - since["step"]
    spent = float(last["seconds"]) - float(since["seconds"])
    if done < 1 or spent <= 0:
        return None
    return spent / done * float(last["steps"] - last["step"])


def _since(moment: object) -> float:
    """Return the seconds since a moment as `records.now` writes it; 0 for what is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(moment))).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _plain(message: str) -> str:
    for theirs, ours in _HERE:
        message = message.replace(theirs, ours)
    return message


def duration(seconds: float) -> str:
    """Return a span of time for people: ``40 s``, ``6 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60 // 10 * 10} min"
