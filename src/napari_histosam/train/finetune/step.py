"""One optimiser step's gradients: from windows to sums over objects, within the memory there is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.devices import free_memory, is_out_of_memory
from napari_histosam.train.finetune.asking import question, turned
from napari_histosam.train.finetune.correcting import add_corrections
from napari_histosam.train.finetune.features import fresh
from napari_histosam.train.finetune.mining import drawn, weights
from napari_histosam.train.finetune.windows import Reader
from napari_histosam.train.small import stain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_histosam.models.trainable import Answers, Trainable
    from napari_histosam.train.finetune.asking import Question
    from napari_histosam.train.finetune.features import Encoded
    from napari_histosam.train.finetune.windows import Sample, View

_RECOLOURED = 0.3
_AT_ONCE = 64
SUMS = ("loss", "mask_loss", "score_error", "train_iou")


@dataclass
class Memory:
    """How much goes through the network at once; it only shrinks.

    Parameters
    ----------
    windows, objects : int
    """

    windows: int
    objects: int = _AT_ONCE

    def __post_init__(self) -> None:
        self.objects = min(self.objects, _AT_ONCE)

    def shrink(self) -> bool:
        """Take half as much from now on; return whether that was possible."""
        if self.windows > 1:
            self.windows //= 2
        elif self.objects > 1:
            self.objects //= 2
        else:
            return False
        return True


@dataclass
class Teacher:
    """Makes the gradients of steps.

    Parameters
    ----------
    model : Trainable
    encoded : Encoded, optional
        Given where the encoder is not trained.
    seed, objects : int
        See `napari_histosam.train.finetune.plan.Plan`.
    device : torch.device
    autocast : callable
        Returns the precision's context.
    backward : callable of tensor
    memory : Memory
    alone : bool
        Whether no other process waits for this one's gradients: then a step for which memory runs
        out is begun again with less.
    note : callable of str
        Gets a sentence when less goes through at once.
    corrections : float
        See `napari_histosam.train.finetune.plan.Plan`.
    """

    model: Trainable
    encoded: Encoded | None
    seed: int
    objects: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager]
    backward: Callable[[Tensor], None]
    memory: Memory
    alone: bool
    note: Callable[[str], None]
    corrections: float = 0.0
    reader: Reader = field(default_factory=Reader)

    def gradients(self, samples: Sequence[Sample], epoch: int) -> Tensor:
        """Add the gradients of the sum of the losses of samples; return the sums.

        Returns
        -------
        (1 + len(SUMS),) float64 tensor on the CPU
            Number of objects, and the sums over them of what `SUMS` names.

        Raises
        ------
        InputError
            If not even one object of one window fits into memory.
        """
        while True:
            try:
                return self._gradients(samples, epoch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                error.__traceback__ = None  # its frames hold the tensors that must go
            for part in self.model.module.parameters():
                part.grad = None
            free_memory(self.device.type)
            if not self.alone or not self.memory.shrink():
                raise InputError(
                    f"There is not enough memory on {self.device} to train {self.model.card.name} "
                    f"by {self.model.method}: choose the method decoder or a smaller model, or "
                    "give --memory-batch 1."
                )
            self.note(
                f"Not enough memory on {self.device}: going on with {self.memory.windows} windows "
                f"and {self.memory.objects} objects at once; the result stays the same."
            )

    def _gradients(self, samples: Sequence[Sample], epoch: int) -> Tensor:
        sums = torch.zeros(1 + len(SUMS), dtype=torch.float64)
        self.model.teach(True, epoch)
        for start in range(0, len(samples), self.memory.windows):
            sums += self._part(samples[start : start + self.memory.windows], epoch)
        self.model.teach(False)
        return sums

    def _part(self, samples: Sequence[Sample], epoch: int) -> Tensor:
        views, questions = [], []
        for window, sample in enumerate(samples):
            rng = np.random.default_rng([self.seed, epoch, *sample_seed(sample)])
            view = self._view(sample, rng)
            views.append(view)
            questions += self._questions(sample, view, window, rng)
        sums = torch.zeros(1 + len(SUMS), dtype=torch.float64)
        if not questions:
            return sums
        with self.autocast():
            features = self._features(samples, views, questions)
        if not any(one.requires_grad for one in features.values()):
            leaves = features
        else:
            # The encoder's backward pass runs once, however many parts the objects come in.
            leaves = {k: v.detach().requires_grad_() for k, v in features.items()}
        self.model.teach(False)
        with self.autocast():
            add_corrections(self.model, leaves, questions, self.memory.objects)
        self.model.teach(True, epoch)
        for start in range(0, len(questions), self.memory.objects):
            part = questions[start : start + self.memory.objects]
            with self.autocast():
                found = self.model.decode(
                    leaves,
                    [q.window for q in part],
                    [q.place for q in part],
                    [q.asked for q in part],
                )
            for answers in found:
                sums += self._judge(answers, part)
        if leaves is not features:
            used = [k for k in features if leaves[k].grad is not None]
            torch.autograd.backward([features[k] for k in used], [leaves[k].grad for k in used])
        return sums

    def _judge(self, answers: Answers, part: Sequence[Question]) -> Tensor:
        chosen = [part[row] for row in answers.rows]

        def stacked(arrays: list) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(self.device)

        judged = self.model.loss(
            answers,
            stacked([q.asked.truth for q in chosen]),
            torch.tensor([q.area for q in chosen], device=self.device),
            torch.tensor([q.asked.ambiguous for q in chosen], device=self.device),
            stacked([np.stack(q.around) for q in chosen]) if chosen[0].around else None,
        )
        self.backward(judged.total.sum())
        sums = [float(part.detach().sum()) for part in judged]
        return torch.tensor([len(chosen), *sums], dtype=torch.float64)

    def _view(self, sample: Sample, rng: np.random.Generator) -> View:
        view = self.reader.read(sample)
        if self.corrections == 0:
            view = replace(view, prompts={})
        if self.encoded is not None:
            return view  # what is kept of it would not fit another look
        recolour = stain.recoloured if rng.random() < _RECOLOURED else None
        return turned(view, rng, recolour)

    def _questions(
        self, sample: Sample, view: View, window: int, rng: np.random.Generator
    ) -> list[Question]:
        numbers = sample.numbers
        count = min(self.objects, len(numbers))
        worth = weights(sample, self.corrections)
        chosen = [numbers[i] for i in np.sort(drawn(worth, count, rng))]
        made = [
            question(self.model, view, number, window, own)
            for number, own in zip(chosen, rng.spawn(count), strict=True)
        ]
        return [one for one in made if one is not None]

    def _features(
        self, samples: Sequence[Sample], views: Sequence[View], questions: Sequence[Question]
    ) -> dict[str, Tensor]:
        if self.encoded is not None:
            return self.encoded.of(samples, views)
        return fresh(self.model, views, {q.place for q in questions}, self.device)


def sample_seed(sample: Sample) -> list[int]:
    """Return numbers that tell a sample from all others, the same in every run."""
    name = f"{sample.entry.set_name}/{sample.entry.name}".encode()
    at = [round(2 * sample.window.cx), round(2 * sample.window.cy)]
    return [*name, *at, sample.turn] if sample.turn else [*name, *at]
