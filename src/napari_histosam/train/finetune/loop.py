"""The training loop on Lightning Fabric: one process or many, resumed exactly where it stopped.

Which windows a step sees, and in which order, follows from the seed and the step's number alone, so
that a run which was killed goes on as if it had not been, and any number of processes share the
same steps. Gradients are summed over objects and divided by how many there were in all processes:
what a step does depends neither on how its windows are shared out nor on how many fit into memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.train.finetune.mining import epoch_of
from napari_histosam.train.finetune.step import SUMS, Memory, Teacher
from napari_histosam.train.finetune.validation import Examined, examined, judge, means

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from lightning_fabric import Fabric
    from torch import Tensor

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.features import Encoded
    from napari_histosam.train.finetune.folder import RunFolder
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.windows import Sample

_CLIP = 2.0
# Seconds between checkpoints within an epoch, and between reported steps.
_SAVE_EVERY, _TELL_EVERY = 30.0, 0.5
# A validation that is better by less is not better.
_LEAST_GAIN = 1e-4


@dataclass(frozen=True)
class End:
    """How a call of `Loop.run` ended.

    Parameters
    ----------
    state : {"done", "paused"}
    message : str
    best_epoch : int
        0 is the base itself.
    early : bool
        Whether it ended because someone asked it to.
    """

    state: str
    message: str
    best_epoch: int
    early: bool = False


class Loop:
    """One process's part of a run.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    plan : Plan
    model : Trainable
        On the device.
    train, val : sequence of Sample
    folder : RunFolder
        Only the first process writes to it.
    encoded : Encoded, optional
        Given where the encoder is not trained.
    about : dict of str
        Metadata of ``best.safetensors``.
    """

    def __init__(
        self,
        fabric: Fabric,
        plan: Plan,
        model: Trainable,
        train: Sequence[Sample],
        val: Sequence[Sample],
        folder: RunFolder,
        encoded: Encoded | None,
        about: dict[str, str],
    ) -> None:
        self._fabric, self._plan, self._model = fabric, plan, model
        self._train, self._folder, self._encoded, self._about = train, folder, encoded, about
        self._examined = examined(val)
        world = fabric.world_size
        # Every process gets as many windows as the others.
        self._batch = world * -(-plan.batch // world)
        self._per_epoch = -(-len(train) // self._batch)
        self.steps = plan.epochs * self._per_epoch
        learns = {n: p for n, p in model.module.named_parameters() if p.requires_grad}
        self._parameters = list(learns.values())
        self._rate = plan.rate or model.rate
        groups, self._paces = _groups(learns, plan.decay, model.pace)
        self._optimiser = torch.optim.AdamW(groups, lr=self._rate)
        share = self._batch // world
        self._teacher = Teacher(
            model=model,
            encoded=encoded,
            seed=plan.seed,
            objects=plan.objects,
            device=fabric.device,
            autocast=fabric.autocast,
            backward=fabric.backward,
            memory=Memory(min(plan.memory_batch or share, share), share * plan.objects),
            alone=world == 1,
            note=self._note,
            corrections=plan.corrections,
        )
        self._order: tuple[int, list[Sample]] = (-1, [])
        self.step, self._seconds, self._told = 0, 0.0, 0.0
        self._sums = torch.zeros(1 + len(SUMS), dtype=torch.float64)
        self._epochs: list[dict[str, Any]] = []
        self._best, self._best_epoch = -1.0, 0
        self._ended: str | None = None
        self._resume()

    def run(self) -> End:
        """Train to the end, until nothing gets better, or until asked to stop or to finish."""
        if self._ended is not None:
            return End("done", self._ended, self._best_epoch, early=True)
        self._saved = self._begun = time.monotonic()
        if not self._epochs:
            self._close_epoch()
        while self.step < self.steps and not self._stale():
            stop, finish = self._wishes()
            if finish:
                return self._finish()
            if stop:
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

    def _wishes(self) -> tuple[bool, bool]:
        """Return whether someone asked to stop, and to finish; all processes get the same."""
        mine = (False, False)
        if self._first:
            mine = self._folder.asked_to_stop(), self._folder.asked_to_finish()
        return self._fabric.broadcast(mine)

    def _finish(self) -> End:
        """End for good: what was learned since the last validation is not judged and not kept."""
        said = f"Finished early after {self._where()}, as asked"
        if self._best_epoch:
            self._ended = f"{said}; the best was epoch {self._best_epoch}."
        else:
            base = self._model.card.name
            self._ended = f"{said}: no epoch was better than {base}, so there is no new model."
        self._checkpoint()
        return End("done", self._ended, self._best_epoch, early=True)

    @property
    def _first(self) -> bool:
        return self._fabric.global_rank == 0

    def _learn(self) -> None:
        epoch, place = divmod(self.step, self._per_epoch)
        mine = self._samples(epoch, place)
        # Dropout draws from the global generator.
        torch.manual_seed((self._plan.seed * 1_000_003 + self.step) * 64 + self._fabric.global_rank)
        for part in self._parameters:
            part.grad = None
        sums = self._share(self._teacher.gradients(mine, epoch))
        rate = self._plan.rate_at(self.step, self.steps, self._rate)
        for group, pace in zip(self._optimiser.param_groups, self._paces, strict=True):
            group["lr"] = rate * pace
        if sums[0] > 0:
            nn.utils.clip_grad_norm_(self._parameters, _CLIP)
            self._optimiser.step()
        if not torch.isfinite(sums).all():
            raise InputError(
                f"The loss is no number any more at {self._where()}: give a lower --rate (it was "
                f"{self._rate:g})."
            )
        self._sums += sums
        self.step += 1
        now = time.monotonic()
        if self._first and now - self._told > _TELL_EVERY:
            self._told = now
            row = {"kind": "step", "epoch": epoch + 1, "step": self.step, "steps": self.steps}
            self._folder.append({**row, **_means(sums), "seconds": self._time()})
            self._folder.tell("running", f"Training: {self._where()}.", **self._progress())

    def _samples(self, epoch: int, place: int) -> list[Sample]:
        """Return this process's windows of a step."""
        if self._order[0] != epoch:
            plan = self._plan
            self._order = epoch, epoch_of(self._train, plan.corrections, plan.seed, epoch)
        order = self._order[1]
        # The last batch of an epoch is filled up from the epoch's beginning.
        first = place * self._batch + self._fabric.global_rank
        mine = range(first, (place + 1) * self._batch, self._fabric.world_size)
        return [order[i % len(order)] for i in mine]

    def _share(self, sums: Tensor) -> Tensor:
        """Make gradients the means over the objects of all processes; return all sums."""
        world = self._fabric.world_size
        if world > 1:
            for part in self._parameters:
                if part.grad is None:
                    part.grad = torch.zeros_like(part)
            flat = torch.cat([part.grad.flatten() for part in self._parameters])  # type: ignore[union-attr]
            flat = self._summed(flat)
            sums = self._summed(sums.float().to(self._fabric.device)).double().cpu()
            start = 0
            for part in self._parameters:
                part.grad = flat[start : start + part.numel()].view_as(part)
                start += part.numel()
        for part in self._parameters:
            if part.grad is not None:
                part.grad /= max(float(sums[0]), 1.0)
        return sums

    def _summed(self, part: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        return cast("Tensor", self._fabric.all_reduce(part, reduce_op="sum"))

    def _close_epoch(self) -> None:
        """Validate, keep what is best, report, and write a checkpoint."""
        row: dict[str, Any] = {
            "kind": "epoch",
            "epoch": self.step // self._per_epoch,
            "step": self.step,
            "steps": self.steps,
            "rate": self._plan.rate_at(max(self.step - 1, 0), self.steps, self._rate),
            **_means(self._sums),
            **means(self._validate(), self._examined),
        }
        self._sums.zero_()
        reached = row["val_iou"]
        if reached is None:
            raise InputError("The held-out images show no object to validate with: label some.")
        row["best"] = reached > self._best + _LEAST_GAIN
        row["seconds"] = self._time()
        self._epochs.append(row)
        if row["best"]:
            self._best, self._best_epoch = reached, row["epoch"]
        if self._first:
            if row["best"]:
                self._folder.save_best(self._model.state(), self._about)
            self._folder.append(row)
            self._folder.write_log(self._epochs)
            self._folder.tell("running", f"Training: {self._where()}.", **self._progress())
        self._checkpoint()

    def _validate(self) -> np.ndarray:
        rank, world = self._fabric.global_rank, self._fabric.world_size
        windows = list(dict.fromkeys(one.sample for one in self._examined))
        mine = set(windows[rank::world])
        rows = [row for row, one in enumerate(self._examined) if one.sample in mine]
        chosen: list[Examined] = [self._examined[row] for row in rows]
        found = judge(
            self._model, chosen, self._encoded, self._fabric.device, self._fabric.autocast
        )
        out = torch.zeros(len(self._examined), found.shape[1])
        out[rows] = torch.from_numpy(found).float()
        if world > 1:
            out = self._summed(out.to(self._fabric.device)).cpu()
        return out.double().numpy()

    def _stale(self) -> bool:
        return len(self._epochs) - 1 - self._best_epoch >= self._plan.patience

    def _checkpoint(self) -> None:
        self._saved = time.monotonic()
        if self._first:
            self._folder.save(
                {
                    "plan": self._plan.record(),
                    "windows": len(self._train),
                    "batch": self._batch,
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
            if self._first:
                self._folder.rewind(-1)  # of one that was killed before its first checkpoint
            return
        other = self._plan.difference(kept["plan"])
        if kept["windows"] != len(self._train):
            other = f"{kept['windows']} windows of images"
        elif kept["batch"] != self._batch:
            other = f"a batch of {kept['batch']} windows"
        if other is not None:
            raise InputError(
                f"{self._folder.path} holds a run with {other}: give the same options and data, or "
                "another --out."
            )
        self._model.restore(kept["trained"])
        self._optimiser.load_state_dict(kept["optimiser"])
        self.step, self._seconds = int(kept["step"]), float(kept["seconds"])
        self._sums, self._epochs = kept["sums"], list(kept["epochs"])
        self._best, self._best_epoch = float(kept["best"]), int(kept["best_epoch"])
        self._ended = kept.get("ended")
        self._begun = time.monotonic()
        if self._first:
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
            "best_val_iou": self._best,
        }

    def _note(self, sentence: str) -> None:
        if self._first:
            self._folder.note(sentence)


def _groups(
    parameters: Mapping[str, nn.Parameter], decay: float, pace: Callable[[str], float]
) -> tuple[list[dict[str, Any]], list[float]]:
    """Decay matrices and kernels, not norms and biases; return each group's pace, too."""
    groups, paces = [], []
    for one in sorted({pace(name) for name in parameters}, reverse=True):
        alike = [p for name, p in parameters.items() if pace(name) == one]
        heavy = [p for p in alike if p.ndim > 1]
        light = [p for p in alike if p.ndim <= 1]
        groups.append({"params": heavy, "weight_decay": decay})
        groups.append({"params": light, "weight_decay": 0.0})
        paces += [one, one]
    return groups, paces


def _means(sums: Tensor) -> dict[str, float | None]:
    count = float(sums[0])
    values = [round(float(v) / count, 6) if count else None for v in sums[1:]]
    return dict(zip(SUMS, values, strict=True))
