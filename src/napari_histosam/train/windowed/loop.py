"""The training loop of models that learn from whole windows; resumed exactly where it stopped.

As in `napari_histosam.train.finetune.loop`, what a step sees follows from the seed and the step's
number alone. Parts of a window's loss are propagated one after another, so that memory holds one.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.models.window_trainable import Paced
from napari_histosam.train.finetune.loop import End
from napari_histosam.train.windowed.validation import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from napari_histosam.models.window_trainable import Look, WindowTrainable
    from napari_histosam.train.finetune.folder import RunFolder
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.windowed.judge import Judge
    from napari_histosam.train.windowed.kept import Kept
    from napari_histosam.train.windowed.windows import Part

# Far above what an ordinary step has: one window shall not undo the others.
_CLIP = 35.0
_SAVE_EVERY = 30.0
_LEAST_GAIN = 1e-4
# Windows that a validation looks at, spread over all: so many, and no more than a share of those
# that are learned from, for finding takes about as long as learning.
_VALIDATED, _FEWEST, _SHARE = 32, 8, 4


class WindowLoop:
    """A run, in one process.

    Parameters
    ----------
    plan : Plan
    model : WindowTrainable
        On the device.
    train, val : sequence of Part
    folder : RunFolder
    kept : Kept
    about : dict of str
        Metadata of ``best.safetensors``.
    judge : callable
        Makes a `Judge`; the first of its figures decides which epoch is the best.
    autocast : callable
        Returns the precision's context.
    """

    def __init__(
        self,
        plan: Plan,
        model: WindowTrainable,
        train: Sequence[Part],
        val: Sequence[Part],
        folder: RunFolder,
        kept: Kept,
        about: dict[str, str],
        judge: Callable[[], Judge],
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._judge, self._figure = judge, next(iter(judge().score()))
        self._plan, self._model, self._folder, self._kept = plan, model, folder, kept
        some = min(max(len(train) // _SHARE, _FEWEST), _VALIDATED)
        self._train, self._val, self._about = train, spread(val, some), about
        self._autocast = autocast
        self._per_epoch = -(-len(train) // plan.batch)
        self.steps = plan.epochs * self._per_epoch
        # The recipe's rate is for one window a step and grows with the windows.
        self._rate = plan.rate or model.rate * plan.batch
        self._optimiser = model.optimiser(self._rate)
        self._learns = [p for p in model.module.parameters() if p.requires_grad]
        self.step, self._seconds = 0, 0.0
        self._sums: dict[str, float] = {}
        self._epochs: list[dict[str, Any]] = []
        self._best, self._best_epoch = -1.0, 0
        self._ended: str | None = None
        self._begun = time.monotonic()
        self._resume()

    def run(self) -> End:
        """Train to the end, until nothing gets better, or until asked to stop or to finish."""
        if self._ended is not None:
            return End("done", self._ended, self._best_epoch, early=True)
        self._saved = self._begun = time.monotonic()
        if not self._epochs:
            self._close_epoch()
        while self.step < self.steps and not self._stale():
            if self._folder.asked_to_finish():
                return self._finish()
            if self._folder.asked_to_stop():
                self._checkpoint()
                return End("paused", f"Paused at {self._where()}.", self._best_epoch)
            self._learn()
            if self.step % self._per_epoch == 0:
                self._close_epoch()
            elif time.monotonic() - self._saved > _SAVE_EVERY:
                self._checkpoint()
        why = "all epochs are done"
        if self.step < self.steps:
            why = f"{self._plan.patience} epochs brought nothing better"
        message = f"Finished after {self._where()}: {why}; the best was epoch {self._best_epoch}."
        return End("done", message, self._best_epoch)

    def _finish(self) -> End:
        said = f"Finished early after {self._where()}, as asked"
        self._ended = f"{said}; the best was epoch {self._best_epoch}."
        if not self._best_epoch:
            base = self._model.card.name
            self._ended = f"{said}: no epoch was better than {base}, so there is no new model."
        self._checkpoint()
        return End("done", self._ended, self._best_epoch, early=True)

    def _learn(self) -> None:
        epoch, place = divmod(self.step, self._per_epoch)
        order = np.random.default_rng((self._plan.seed, 31, epoch)).permutation(len(self._train))
        batch = self._plan.batch
        mine = [order[i % len(order)] for i in range(place * batch, (place + 1) * batch)]
        torch.manual_seed(self._plan.seed * 1_000_003 + self.step)
        self._model.teach(True, epoch)
        self._optimiser.zero_grad()
        sums: dict[str, float] = {}
        most = self._plan.memory_batch or len(mine)
        for start in range(0, len(mine), most):
            looks = [self._kept.of(self._train[n]).look for n in mine[start : start + most]]
            share = len(looks) / len(mine)
            for part in self._parts(looks):
                total = torch.stack([value.float() for value in part.values()]).sum() * share
                total.backward()
                for name, tensor in part.items():
                    sums[name] = sums.get(name, 0.0) + float(tensor.detach()) * share
        if not np.isfinite(sum(sums.values())):
            raise InputError(
                f"The loss is no number any more at {self._where()}: give a lower --rate (it was "
                f"{self._rate:g})."
            )
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate_at(self.step)
        nn.utils.clip_grad_norm_(self._learns, _CLIP)
        self._optimiser.step()
        self.step += 1
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._sums["steps"] = self._sums.get("steps", 0.0) + 1
        row = {"kind": "step", "epoch": epoch + 1, "step": self.step, "steps": self.steps}
        self._folder.append(
            {**row, "loss": sum(sums.values()), "parts": sums, "seconds": self._time()}
        )
        self._folder.tell("running", f"Training: {self._where()}.", **self._progress())

    def _parts(self, looks: Sequence[Look]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the parts of the loss of windows, each worked out in the run's precision."""
        parts = self._model.losses(looks)
        while True:
            with self._autocast():
                part = next(parts, None)
            if part is None:
                return
            yield part

    def _close_epoch(self) -> None:
        """Validate, keep what is best, report, and write a checkpoint."""
        self._model.teach(False)
        judge = self._judge()
        for part in self._val:
            with self._autocast():
                judge.add(self._model, self._kept.of(part))
        steps = self._sums.pop("steps", 0.0)
        means = {name: value / steps for name, value in self._sums.items()} if steps else {}
        row: dict[str, Any] = {
            "kind": "epoch",
            "epoch": self.step // self._per_epoch,
            "step": self.step,
            "steps": self.steps,
            "rate": self._rate_at(max(self.step - 1, 0)),
            "loss": sum(means.values()) if means else None,
            "parts": means,
            **{f"val_{name}": value for name, value in judge.score().items()},
        }
        self._sums = {}
        deciding = row[f"val_{self._figure}"]
        row["best"] = deciding > self._best + _LEAST_GAIN
        row["seconds"] = self._time()
        self._epochs.append(row)
        if row["best"]:
            self._best, self._best_epoch = deciding, row["epoch"]
            self._folder.save_best(self._model.state(), self._about)
        self._folder.append(row)
        self._folder.write_log(self._epochs)
        self._folder.tell("running", f"Training: {self._where()}.", **self._progress())
        self._checkpoint()

    def _stale(self) -> bool:
        return len(self._epochs) - 1 - self._best_epoch >= self._plan.patience

    def _checkpoint(self) -> None:
        self._saved = time.monotonic()
        self._folder.save(
            {
                "plan": self._plan.record(),
                "windows": len(self._train),
                "step": self.step,
                "seconds": self._time(),
                "trained": self._model.state(),
                "optimiser": self._optimiser.state_dict(),
                "sums": self._sums,
                "epochs": self._epochs,
                "best": self._best,
                "best_epoch": self._best_epoch,
                "ended": self._ended,
            }
        )

    def _resume(self) -> None:
        kept = self._folder.load()
        if kept is None:
            self._folder.rewind(-1)  # of one that was killed before its first checkpoint
            return
        other = self._plan.difference(kept["plan"])
        if kept["windows"] != len(self._train):
            other = f"{kept['windows']} windows of images"
        if other is not None:
            raise InputError(
                f"{self._folder.path} holds a run with {other}: give the same options and data, or "
                "another --out."
            )
        self._model.restore(kept["trained"])
        self._optimiser.load_state_dict(kept["optimiser"])
        self.step, self._seconds = int(kept["step"]), float(kept["seconds"])
        self._sums, self._epochs = dict(kept["sums"]), list(kept["epochs"])
        self._best, self._best_epoch = float(kept["best"]), int(kept["best_epoch"])
        self._ended = kept.get("ended")
        self._folder.rewind(self.step)

    def _time(self) -> float:
        return round(self._seconds + time.monotonic() - self._begun, 3)

    def _where(self) -> str:
        done = self.step / self._per_epoch
        return f"{done:.3g} of {self._plan.epochs} epochs ({self.step} of {self.steps} steps)"

    def _progress(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step // self._per_epoch,
            "best_epoch": self._best_epoch,
            f"best_val_{self._figure}": self._best,
        }

    def _rate_at(self, step: int) -> float:
        if isinstance(self._model, Paced):
            return self._rate * self._model.pace(step, self._per_epoch, self._plan.epochs)
        return self._plan.rate_at(step, self.steps, self._rate)
