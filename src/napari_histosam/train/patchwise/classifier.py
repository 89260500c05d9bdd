"""Stage 1: teaches the classifier to tell patches with tumour from those without.

The authors' recipe: all weights, binary cross entropy, Adam with an L2 penalty, a rate that falls
by a tenth every ten epochs; the epoch of the lowest validation loss is kept. Unlike theirs, that
loss is of logits, and the rate is higher: they took 50 epochs over some 12,000 patches. With few
steps, running statistics of the batch norms lag behind the weights, and they were taken while the
dropout hid what is looked at most: before each validation they are measured anew, as in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from napari_histosam.models.ep_sam.loss import CLASSIFIER_DECAY, patch_loss
from napari_histosam.train.patchwise.course import CLASSIFIER
from napari_histosam.train.patchwise.patches import plain, varied
from napari_histosam.train.windowed.validation import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.ep_sam.classifier import PatchClassifier
    from napari_histosam.train.patchwise.labels import PatchEntry
    from napari_histosam.train.patchwise.patches import Patches
    from napari_histosam.train.patchwise.plan import PatchPlan

RATE = 1e-4
_FALLS_EVERY, _FALLS_TO = 10, 0.9
# Training patches by which the batch norms are measured, spread over all.
_MEASURED = 128


class ClassifierStage:
    """The classifier as `napari_histosam.train.patchwise.loop.Stage`.

    Parameters
    ----------
    plan : PatchPlan
    net : PatchClassifier
        On the device.
    patches : Patches
    train, val : sequence of PatchEntry
    autocast : callable
        Makes the context in which the network computes.
    """

    name = CLASSIFIER
    option = "--rate"

    def __init__(
        self,
        plan: PatchPlan,
        net: PatchClassifier,
        patches: Patches,
        train: Sequence[PatchEntry],
        val: Sequence[PatchEntry],
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self.module = net.requires_grad_(True)
        self.epochs = plan.epochs
        self._batch = min(plan.batch, len(train))
        self.per_epoch = -(-len(train) // self._batch)
        self._plan, self._patches, self._train, self._val = plan, patches, train, val
        self._autocast = autocast
        self._rate = plan.rate or RATE
        self.optimiser = torch.optim.Adam(
            net.parameters(), lr=self._rate, weight_decay=CLASSIFIER_DECAY
        )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self._rate * _FALLS_TO ** (step // self.per_epoch // _FALLS_EVERY)

    def learn(self, step: int) -> float:
        """Propagate the loss of a batch; the last one of an epoch is filled up from its start."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((self._plan.seed, 31, epoch)).permutation(len(self._train))
        span = range(place * self._batch, (place + 1) * self._batch)
        chosen = [self._train[order[i % len(order)]] for i in span]
        seen = varied([self._patches.of(entry) for entry in chosen])
        loss = patch_loss(self._logits(seen), self._labels(chosen))
        loss.backward()
        return float(loss.detach())

    def judge(self) -> tuple[float, dict[str, float]]:
        """Return minus the validation loss, and it with accuracy (at 0.5) and ROC AUC."""
        self._measure()
        logits, labels = [], []
        for start in range(0, len(self._val), self._batch):
            part = self._val[start : start + self._batch]
            logits.append(self._logits(plain([self._patches.of(entry) for entry in part])))
            labels.append(self._labels(part))
        found, truth = torch.cat(logits), torch.cat(labels)
        loss = float(patch_loss(found, truth))
        right = float(((found > 0) == (truth > 0.5)).float().mean())
        auc = area_under_curve(found.cpu().numpy(), truth.cpu().numpy() > 0.5)
        return -loss, {"val_loss": loss, "val_accuracy": right, "val_auc": auc}

    def _measure(self) -> None:
        """Take the statistics of the batch norms over training patches, without dropout."""
        norms = [part for part in self.module.modules() if isinstance(part, nn.BatchNorm2d)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        chosen = spread(self._train, _MEASURED)
        for start in range(0, len(chosen), self._batch):
            part = chosen[start : start + self._batch]
            self._logits(plain([self._patches.of(entry) for entry in part]))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()

    def _logits(self, seen: Tensor) -> Tensor:
        device = self.module.fc.weight.device
        with self._autocast():
            found: Tensor = self.module(seen.to(device))
        return found.float()

    def _labels(self, entries: Sequence[PatchEntry]) -> Tensor:
        device = self.module.fc.weight.device
        return torch.tensor([float(entry.tumour) for entry in entries], device=device)


def area_under_curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the ROC AUC of scores (n,): how often a true one is above a false one.

    By ranks, ties by half (Mann and Whitney 1947); 0.5 where one of the two is missing.
    """
    true, false = int(truth.sum()), int((~truth).sum())
    if not true or not false:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[truth].sum() - true * (true + 1) / 2) / (true * false))
