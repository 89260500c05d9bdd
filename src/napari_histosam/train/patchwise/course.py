"""What a training from patch labels has behind it: finished stages, steps in all, curves.

It is written into ``last.pt`` of the run's folder together with the stage under way, so that a run
that was stopped or killed goes on exactly. What each stage learned best lies in ``parts/``.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.trained import write_trained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.train.finetune.folder import RunFolder
    from napari_histosam.train.patchwise.plan import PatchPlan

CLASSIFIER, DECODER = "classifier", "decoder"
COLUMNS = (
    *("stage", "epoch", "step", "seconds", "rate", "loss", "val_loss", "val_accuracy", "val_auc"),
    *("val_ids", "val_dice_heat", "best"),
)


def round_name(number: int) -> str:
    """Return the name of the decoder's stage ``number``: 0 comes before the rounds."""
    return f"round {number}" if number else DECODER


class Course:
    """The run as a whole.

    Parameters
    ----------
    plan : PatchPlan
    folder : RunFolder
    labels : str
        Hash of the patches and their labels.
    """

    def __init__(self, plan: PatchPlan, folder: RunFolder, labels: str) -> None:
        self.plan, self.folder, self._labels = plan, folder, labels
        self.done: dict[str, dict[str, Any]] = {}
        self.epochs: list[dict[str, Any]] = []
        self.step = 0
        self._stage: str | None = None
        self._loop: dict[str, Any] | None = None
        self._seconds, self._begun = 0.0, time.monotonic()
        self._resume()

    def under_way(self, stage: str) -> dict[str, Any] | None:
        """Return what a stage's loop handed to `checkpoint` last, if it did."""
        return self._loop if self._stage == stage else None

    def checkpoint(self, stage: str | None, loop: dict[str, Any] | None) -> None:
        """Write where the run is, whole or not at all."""
        self._stage, self._loop = stage, loop
        self.folder.save(
            {
                "plan": self.plan.record(),
                "later": self.plan.later(),
                "labels": self._labels,
                "done": self.done,
                "epochs": self.epochs,
                "step": self.step,
                "seconds": self.seconds(),
                "stage": stage,
                "loop": loop,
            }
        )

    def close(self, stage: str, **figures: Any) -> None:
        """Say that a stage is done, and what came out of it."""
        self.done[stage] = {**figures, "step": self.step}
        self.checkpoint(None, None)

    def add_epoch(self, row: dict[str, Any]) -> None:
        """Report an epoch."""
        self.epochs.append(row)
        self.folder.append(row)
        self.folder.write_log(self.epochs, COLUMNS)

    def seconds(self) -> float:
        """Return how long the run has worked."""
        return round(self._seconds + time.monotonic() - self._begun, 3)

    def part(self, stage: str) -> Path:
        """Return where a stage's best weights lie."""
        return self.folder.path / "parts" / f"{stage.replace(' ', '-')}.safetensors"

    def keep_part(self, stage: str, state: Mapping[str, Tensor]) -> None:
        """Write a stage's best weights."""
        write_trained(self.part(stage), state, {"stage": stage})

    def read_part(self, stage: str) -> dict[str, Tensor]:
        """Return a finished stage's best weights."""
        return read_checkpoint(self.part(stage), strip=False)

    @property
    def rounds(self) -> list[str]:
        """The decoder's finished stages, in their order."""
        return [name for name in self.done if name != CLASSIFIER]

    def _resume(self) -> None:
        kept = self.folder.load()
        if kept is None:
            self.folder.rewind(-1)  # of one that was killed before its first checkpoint
            return
        other = self.plan.difference(kept["plan"])
        if kept["labels"] != self._labels:
            other = "other patches or labels"
        if other is not None:
            raise InputError(
                f"{self.folder.path} holds a run with {other}: give the same options and data, or "
                "another --out."
            )
        self.done, self.epochs = dict(kept["done"]), list(kept["epochs"])
        self.step, self._seconds = int(kept["step"]), float(kept["seconds"])
        self._stage, self._loop = kept["stage"], kept["loop"]
        self.folder.rewind(self.step)
        if kept["later"] != self.plan.later() and (self.rounds or self._stage != CLASSIFIER):
            self._forget_rounds()

    def _forget_rounds(self) -> None:
        """Take back all but the classifier: masks or decoder are wanted otherwise."""
        if self.rounds or self._stage is not None:
            self.folder.note("Masks and decoder begin anew, for other numbers were given for them.")
        for name in self.rounds:
            self.part(name).unlink(missing_ok=True)
            del self.done[name]
        self.epochs = [row for row in self.epochs if row["stage"] == CLASSIFIER]
        self.step = int(self.done[CLASSIFIER]["step"])
        self.folder.rewind(self.step)
        for left in (self.folder.path / "pseudo").glob("*"):
            if left.name != "heat" and left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        self.checkpoint(None, None)
