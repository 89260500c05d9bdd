"""The folder of a run: its state, progress for whoever follows it, checkpoints, wishes to end.

``run.json``        what is done and how it stands: running, paused, done or failed, in one sentence
``progress.jsonl``  one row per reported step and per epoch, appended
``log.csv``         one row per epoch
``last.pt``         everything needed to go on exactly where it was
``best.safetensors``  what was trained, at the best epoch
``features/``       kept features, where the encoder is not trained
``stop``            put there by anyone: the run writes ``last.pt`` and pauses
``finish``          put there by anyone: the run ends for good, with the best epoch so far
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import uuid
from typing import TYPE_CHECKING, Any, Literal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.models.files import atomic_file, write_bytes_atomic
from napari_histosam.records import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

State = Literal["running", "paused", "done", "failed"]
# Seconds by which clocks of processes and files may differ.
_CLOCK = 2.0
COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "rate",
    "loss",
    "mask_loss",
    "score_error",
    "train_iou",
    "val_iou",
    "val_click1",
    "val_click3",
    "val_box",
    "val_dice",
    "val_score_error",
    "val_ap50",
    "best",
)


class RunFolder:
    """Reads and writes a run's folder.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last, self.best = path / "last.pt", path / "best.safetensors"
        self.features = path / "features"
        self._stop, self._finish = path / "stop", path / "finish"

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        InputError
            If it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The folder {self.path} cannot be made ({error.strerror}); choose another with "
                "--out."
            ) from error

    def status(self) -> dict[str, Any]:
        """Return what ``run.json`` says, or nothing where there is none."""
        try:
            found = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def begin(self, plan: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
        """Say that the run is under way; return the status.

        Raises
        ------
        InputError
            If another process is at work here.
        """
        before = self.status()
        if self.at_work():
            raise InputError(
                f"{self.path} is being trained in by process {before['pid']}: wait for it, or put "
                "a file named stop there; if that process is another program, remove run.json."
            )
        self._stop.unlink(missing_ok=True)
        # Of a process that was killed while it wrote.
        for folder in (self.path, self.features):
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        about = {
            "run": before.get("run") or uuid.uuid4().hex[:12],
            "plan": dict(plan),
            "notes": list(notes),
            "started": before.get("started") or now(),
        }
        return self.tell("running", "The run is getting ready.", **about)

    def tell(self, state: State, message: str, **more: Any) -> dict[str, Any]:
        """Write ``run.json``: the state, one sentence, and what else there is to say."""
        told = {
            **self.status(),
            **more,
            "state": state,
            "message": " ".join(message.split()),
            "pid": os.getpid(),
            "updated": now(),
        }
        write_bytes_atomic(self.path / "run.json", json.dumps(told, indent=1).encode())
        return told

    def fail(self, message: str) -> None:
        """Say that the run failed; a disk that takes no more keeps the state as it was."""
        with contextlib.suppress(HistosamError, OSError):
            self.tell("failed", message)

    def note(self, sentence: str) -> None:
        """Add a sentence to what the user should know."""
        told = self.status()
        self.tell(
            told.get("state", "running"),
            told.get("message", ""),
            notes=[*told.get("notes", []), sentence],
        )

    def at_work(self) -> bool:
        """Tell whether another process trains here."""
        before = self.status()
        if before.get("state") != "running":
            return False
        try:
            written = (self.path / "run.json").stat().st_mtime
        except OSError:
            return False
        return _is_another(before.get("pid"), written)

    def asked_to_stop(self) -> bool:
        """Tell whether someone put the stop file there."""
        return self._stop.exists()

    def ask_to_stop(self) -> None:
        """Have the run pause at its next step."""
        self._stop.touch()

    def asked_to_finish(self) -> bool:
        """Tell whether someone put the finish file there."""
        return self._finish.exists()

    def ask_to_finish(self) -> None:
        """Have the run end at its next step, with what is best so far; also a paused one."""
        self._finish.touch()

    def finished(self) -> None:
        """Take the wish to finish away: it is granted."""
        self._finish.unlink(missing_ok=True)

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row of progress, whole lines only.

        Raises
        ------
        HistosamError
            If it cannot be written.
        """
        line = json.dumps(dict(row), allow_nan=False) + "\n"
        try:
            with (self.path / "progress.jsonl").open("a", encoding="utf-8") as out:
                out.write(line)
        except OSError as error:
            raise HistosamError(
                f"{self.path} cannot be written ({error.strerror}): make room, then run the same "
                "command to go on from the last checkpoint."
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of progress; a line that was cut off is passed over."""
        path = self.path / "progress.jsonl"
        if not path.is_file():
            return []
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def rewind(self, step: int) -> None:
        """Drop rows of steps that a run which goes on will do again."""
        if not (self.path / "progress.jsonl").is_file():
            return
        kept = [row for row in self.rows() if row.get("step", 0) <= step]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
        write_bytes_atomic(self.path / "progress.jsonl", text.encode())

    def write_log(
        self, epochs: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS
    ) -> None:
        """Write ``log.csv``: the main figures, and Dice of each class."""
        classes = sorted({name for row in epochs for name in row.get("dice", {})})
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow([*columns, *(f"dice {name}" for name in classes)])
        for row in epochs:
            dice = row.get("dice", {})
            table.writerow([*(row.get(c) for c in columns), *(dice.get(name) for name in classes)])
        write_bytes_atomic(self.path / "log.csv", text.getvalue().encode("utf-8"))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write ``last.pt``, whole or not at all."""
        import torch

        with atomic_file(self.last) as out:
            torch.save(dict(state), out)

    def load(self) -> dict[str, Any] | None:
        """Return what `save` wrote, or None.

        Raises
        ------
        InputError
            If it is there and cannot be read.
        """
        import torch

        if not self.last.is_file():
            return None
        try:
            return torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may break the reader in any way
            raise InputError(
                f"{self.last} is damaged: remove it to begin again, or give another --out."
            ) from error

    def save_best(self, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
        """Write ``best.safetensors``, whole or not at all."""
        from napari_histosam.models.trained import write_trained

        write_trained(self.best, state, about)


def _is_another(pid: Any, written: float) -> bool:
    """Tell whether the process that wrote a file (seconds since 1970) lives and is not this one."""
    import psutil

    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        # One that is younger than what it is said to have written has only got the number.
        return psutil.Process(pid).create_time() < written + _CLOCK
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.Error:  # it is there and belongs to someone else
        return True
