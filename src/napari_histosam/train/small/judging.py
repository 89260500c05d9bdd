"""Teaches the judge of a trained network what its masks are worth; nothing else changes."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from napari_histosam.models.devices import computes_bfloat16
from napari_histosam.models.small.layers import in_channels_last
from napari_histosam.train.small.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_histosam.models.small.judge import Judge
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.pool import Picture
    from napari_histosam.train.small.windows import Example

_log = logging.getLogger(__name__)

_RATE, _DECAY, _SIZE, _EPOCHS = 1e-3, 0.05, 64, 30
_LEAST_DEVIATION = 1e-3


class Worth(NamedTuple):
    """How well a judge chooses where one click is all that is known, and how well it tells IoUs.

    Mean IoUs of the masks that it takes, and of the best ones that there were (``oracle``); means
    of the error of the predicted IoU at one click and where more is known; the share of clicks
    where the mask taken is within .02 of the best.
    """

    click: float
    oracle: float
    click_error: float
    other_error: float
    first_best: float


def gather(
    net: SmallNet, pictures: Sequence[Picture], seed: int, windows: int, workers: int
) -> list[Example]:
    """Return what a network answers in windows as a user sees them.

    Parameters
    ----------
    net : SmallNet
    pictures : sequence of Picture
    seed, windows : int
    workers : int
        Processes that look at windows; 0 for this one.
    """
    ready = in_channels_last(net.for_inference()).cpu().requires_grad_(False)
    if computes_bfloat16("cpu"):
        ready.to_half()
    made = Windows(ready, pictures, seed, windows)
    # As they are: tensors would travel by a file descriptor each, of which there are not enough.
    feed = DataLoader(
        made,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        # The training before has used threads, which a forked process would wait for in vain.
        multiprocessing_context="spawn" if workers else None,
    )
    return [example for examples in feed for example in examples]


def fit_judge(judge: Judge, examples: Sequence[Example], seed: int) -> None:
    """Train a judge in place on what `gather` returned."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 3))
    whole = stacked(examples, judge.tell.weight.device)
    described, there = whole[0], whole[3]
    judge.mean.copy_(described[there].mean(0))
    judge.deviation.copy_(described[there].std(0).clamp(min=_LEAST_DEVIATION))
    steps = _EPOCHS * max(len(examples) // _SIZE, 1)
    for _ in taught(judge, whole, rng, _RATE, steps):
        pass


def taught(
    judge: Judge, whole: Sequence[Tensor], rng: np.random.Generator, rate: float, steps: int
) -> Iterator[int]:
    """Train a judge in place, and yield the number of each step that is done.

    Parameters
    ----------
    judge : Judge
    whole : sequence of tensor
        From `stacked`, on the judge's device.
    rng : numpy Generator
        Draws the examples of each step.
    rate : float
        AdamW's first learning rate; it falls by half a cosine.
    steps : int
    """
    described, kinds, areas, there, ious = whole
    optimiser = torch.optim.AdamW(judge.parameters(), rate, weight_decay=_DECAY)
    for step in range(steps):
        judge.requires_grad_(True).train()
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        rows = torch.from_numpy(rng.integers(len(there), size=_SIZE)).to(there.device)
        told = judge(described[rows], kinds[rows], areas[rows], there[rows])
        seen = there[rows]
        loss = nn.functional.binary_cross_entropy_with_logits(told[seen], ious[rows][seen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimiser.step()
        judge.requires_grad_(False).eval()
        yield step


@torch.no_grad()
def worth(judge: Judge, examples: Sequence[Example]) -> Worth:
    """Return how good a judge is on examples that it has not learned from."""
    device = judge.tell.weight.device
    taken, best, click_errors, other_errors = [], [], [], []
    for one in examples:
        told = judge(*stacked([one], device)[:4])[0].sigmoid().cpu().numpy()
        chosen = int(told.argmax())
        error = abs(float(told[chosen] - one.ious[chosen]))
        if len(one.ious) > 1:
            taken.append(float(one.ious[chosen]))
            best.append(float(one.ious.max()))
            click_errors.append(error)
        else:
            other_errors.append(error)
    near = np.array(taken) >= np.array(best) - 0.02
    return Worth(*(_mean(v) for v in (taken, best, click_errors, other_errors, near)))


def _as_it_is(examples: list[Example]) -> list[Example]:
    return examples


def stacked(examples: Sequence[Example], device: torch.device) -> list[Tensor]:
    """Return described, kinds, areas, there, IoUs of several examples, padded to one length."""
    longest = max(len(one.ious) for one in examples)
    out: list[list[np.ndarray]] = [[], [], [], [], []]
    for one in examples:
        more = longest - len(one.ious)
        out[0].append(np.pad(one.described, ((0, more), (0, 0))))
        out[1].append(np.pad(one.kinds, (0, more)))
        out[2].append(np.pad(one.areas, (0, more)))
        out[3].append(np.arange(longest) < len(one.ious))
        out[4].append(np.pad(one.ious, (0, more)))
    return [torch.from_numpy(np.stack(part)).to(device) for part in out]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
