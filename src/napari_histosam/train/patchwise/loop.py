"""The loop that drives one stage: steps, epochs, the best one, pauses, and going on exactly.

What a step sees follows from the seed, the stage and the step's number alone.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import nn

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from napari_histosam.train.patchwise.course import Course

Ending = Literal["done", "paused", "finished"]
_SAVE_EVERY = 30.0
_LEAST_GAIN = 1e-5


class Stage(Protocol):
    """What a stage offers to the loop.

    Attributes
    ----------
    name : str
    option : str
        The option that sets its learning rate, for messages.
    epochs, per_epoch : int
        At most so many epochs, of so many steps.
    """

    name: str
    option: str
    epochs: int
    per_epoch: int

    @property
    def module(self) -> nn.Module:
        """What is trained, all of its parameters."""
        ...

    @property
    def optimiser(self) -> Optimizer:
        """What takes the steps."""
        ...

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        ...

    def learn(self, step: int) -> float:
        """Propagate the loss of a step; return it."""
        ...

    def judge(self) -> tuple[float, dict[str, float]]:
        """Return how good the stage is now, more is better, and the figures to report."""
        ...


class StageLoop:
    """Drives one stage to its end.

    Parameters
    ----------
    course : Course
    stage : Stage
        Its module is on the device.
    """

    def __init__(self, course: Course, stage: Stage) -> None:
        self._course, self._stage, self._folder = course, stage, course.folder
        self.steps = stage.epochs * stage.per_epoch
        self.step, self._sum, self._count = 0, 0.0, 0
        self._best, self._best_epoch = -math.inf, 0
        self._figures: dict[str, float] = {}
        kept = course.under_way(stage.name)
        if kept is not None:
            stage.module.load_state_dict(kept["module"])
            stage.optimiser.load_state_dict(kept["optimiser"])
            self.step, self._sum, self._count = kept["step"], kept["sum"], kept["count"]
            self._best, self._best_epoch = kept["best"], kept["best_epoch"]
            self._figures = dict(kept["figures"])

    @property
    def best_epoch(self) -> int:
        """Which epoch is kept, 0 for none."""
        return self._best_epoch

    def run(self) -> Ending:
        """Train to the end, until nothing gets better, or until asked to stop or to finish."""
        self._saved = time.monotonic()
        while self.step < self.steps and not self._stale():
            if self._folder.asked_to_finish():
                self._close()
                return "finished"
            if self._folder.asked_to_stop():
                self._checkpoint()
                return "paused"
            self._learn()
            if self.step % self._stage.per_epoch == 0:
                self._close_epoch()
            elif time.monotonic() - self._saved > _SAVE_EVERY:
                self._checkpoint()
        self._close()
        return "done"

    def _learn(self) -> None:
        stage, plan = self._stage, self._course.plan
        torch.manual_seed(plan.seed * 1_000_003 + self._course.step)
        stage.module.train()
        rate = stage.rate_at(self.step)
        for group in stage.optimiser.param_groups:
            group["lr"] = rate
        stage.optimiser.zero_grad()
        loss = stage.learn(self.step)
        if not math.isfinite(loss):
            raise InputError(
                f"The loss is no number any more at {self.where()}: give a lower {stage.option} "
                f"(it was {rate:g})."
            )
        stage.optimiser.step()
        self.step += 1
        self._course.step += 1
        self._sum, self._count = self._sum + loss, self._count + 1
        row = {"kind": "step", "stage": stage.name, "epoch": (self.step - 1) // stage.per_epoch + 1}
        more = {"loss": loss, "seconds": self._course.seconds()}
        self._folder.append({**row, "step": self._course.step, "steps": self.steps, **more})
        self._tell()

    def _close_epoch(self) -> None:
        stage = self._stage
        stage.module.eval()
        with torch.no_grad():
            good, figures = stage.judge()
        best = good > self._best + _LEAST_GAIN
        row: dict[str, Any] = {
            "kind": "epoch",
            "stage": stage.name,
            "epoch": self.step // stage.per_epoch,
            "step": self._course.step,
            "steps": self.steps,
            "rate": stage.rate_at(self.step - 1),
            "loss": self._sum / max(self._count, 1),
            **figures,
            "best": best,
            "seconds": self._course.seconds(),
        }
        self._sum, self._count = 0.0, 0
        if best:
            self._best, self._best_epoch, self._figures = good, row["epoch"], dict(figures)
            self._course.keep_part(stage.name, self._state())
        self._course.add_epoch(row)
        self._tell()
        self._checkpoint()

    def _stale(self) -> bool:
        return self.step // self._stage.per_epoch - self._best_epoch >= self._course.plan.patience

    def _close(self) -> None:
        if self._best_epoch:
            epochs = self.step // self._stage.per_epoch
            how = {"best_epoch": self._best_epoch, "epochs": epochs, **self._figures}
            self._course.close(self._stage.name, **how)

    def _state(self) -> dict[str, Tensor]:
        """Return what was trained, and running statistics with it, on the CPU."""
        found = self._stage.module.state_dict()
        return {n: value.detach().to("cpu", copy=True).contiguous() for n, value in found.items()}

    def _checkpoint(self) -> None:
        self._saved = time.monotonic()
        loop = {
            "module": self._state(),
            "optimiser": self._stage.optimiser.state_dict(),
            "step": self.step,
            "sum": self._sum,
            "count": self._count,
            "best": self._best,
            "best_epoch": self._best_epoch,
            "figures": self._figures,
        }
        self._course.checkpoint(self._stage.name, loop)

    def where(self) -> str:
        """Return in words how far the stage is."""
        done = self.step / self._stage.per_epoch
        epochs = f"{done:.3g} of {self._stage.epochs} epochs"
        return f"{self._stage.name}, {epochs} ({self.step} of {self.steps} steps)"

    def _tell(self) -> None:
        self._folder.tell(
            "running",
            f"Training: {self.where()}.",
            stage=self._stage.name,
            step=self.step,
            steps=self.steps,
            epoch=self.step // self._stage.per_epoch,
            best_epoch=self._best_epoch,
        )
