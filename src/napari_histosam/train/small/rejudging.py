"""Teaches the judge of a fine-tuned network anew, from the windows that the network learned from.

The decoder's masks look different after fine-tuning, and among those that answer a click other
ones are meant on this tissue than on the tissues before; the judge has to hear of both.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_histosam.models.devices import computes_bfloat16
from napari_histosam.models.small.candidates import encoded
from napari_histosam.models.small.layers import in_channels_last
from napari_histosam.train.small.judging import stacked, taught, worth
from napari_histosam.train.small.windows import examples_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.small.judge import Judge
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.windows import Example

# Gentler than the first teaching: what the judge knows of other tissues is where it starts.
_RATE, _STEPS, _LOOK_EVERY = 5e-4, 200, 25
# Objects of a window that are asked for to measure the costs.
_TRIED = 5
# A judge that is better by less on held-out clicks is not better.
_LEAST_GAIN = 0.002


class Shown(NamedTuple):
    """A window: image (h, w, 3) uint8, labels (h, w), and the numbers to ask for."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    numbers: Sequence[int]


def asked_for(net: SmallNet, windows: Iterable[tuple[Shown, int]]) -> list[Example]:
    """Return what a network answers when the objects of windows are asked for.

    Parameters
    ----------
    net : SmallNet
        Of the trained weights.
    windows : iterable of (Shown, int)
        Each with the seed of its prompts.
    """
    ready = in_channels_last(net.for_inference()).cpu().requires_grad_(False)
    if computes_bfloat16("cpu"):
        ready.to_half()
    out: list[Example] = []
    for shown, seed in windows:
        rng = np.random.default_rng((seed, 4))
        embedding = encoded(ready, "cpu", shown.image)
        for number in shown.numbers:
            truth = shown.labels == number
            if truth.any():
                glass = np.zeros_like(truth)  # its look is not known here: none is clicked
                area = float(np.count_nonzero(truth))
                out += examples_of(ready, embedding, truth, area, glass, rng)
    return out


class Spent(NamedTuple):
    """Seconds of the parts of teaching a judge anew.

    Parameters
    ----------
    look, seek : float
        Of `asked_for`: per window, and per object in it.
    weigh : float
        Per object held out: all looks at whether a judge has become better.
    teach : float
        Of all steps.
    """

    look: float
    seek: float
    weigh: float
    teach: float


def trial(net: SmallNet, shown: Shown, seed: int) -> Spent:
    """Measure on one window what teaching a judge costs; the network stays as it is."""

    def timed(numbers: Sequence[int]) -> tuple[float, list[Example]]:
        begun = time.perf_counter()
        windows = [(shown._replace(numbers=numbers), seed)] if numbers else []
        examples = asked_for(net, windows)
        return time.perf_counter() - begun, examples

    some = shown.numbers[:_TRIED]
    timed(some[:1])  # warms up
    ready, first = timed([])[0], timed(some[:1])[0]
    many, examples = timed(some)
    seek = max(many - first, 0.0) / (len(some) - 1) if len(some) > 1 else 0.0
    look = max(first - ready - seek, 0.0)
    if not examples:
        return Spent(look, seek, 0.0, 0.0)
    made = copy.deepcopy(net.judge)
    begun = time.perf_counter()
    worth(made, [one for one in examples if len(one.ious) > 1])
    weigh = (time.perf_counter() - begun) / len(some) * (1 + _STEPS // _LOOK_EVERY)
    whole = stacked(examples, made.tell.weight.device)
    steps = taught(made, whole, np.random.default_rng((seed, 5)), _RATE, _LOOK_EVERY)
    next(steps)  # the first one takes much longer
    begun = time.perf_counter()
    for _ in steps:
        pass
    each = (time.perf_counter() - begun) / (_LOOK_EVERY - 1)
    return Spent(look, seek, weigh, each * _STEPS)


def rejudged(
    judge: Judge, learned: Sequence[Example], held_out: Sequence[Example], seed: int
) -> tuple[Judge, float]:
    """Return a judge that knows the examples, and what it gains; the judge given where none.

    Parameters
    ----------
    judge : Judge
        Stays as it is.
    learned, held_out : sequence of Example
        To learn from; to choose by how long.
    seed : int

    Returns
    -------
    judge : Judge
    gain : float
        In IoU of the mask that a lone click shows, on ``held_out``.
    """
    clicks = [one for one in held_out if len(one.ious) > 1]
    if not learned or not clicks:
        return judge, 0.0
    before = worth(judge, clicks).click
    best, reached = judge, before + _LEAST_GAIN
    torch.manual_seed(seed)
    made = copy.deepcopy(judge)
    whole = stacked(learned, made.tell.weight.device)
    for step in taught(made, whole, np.random.default_rng((seed, 5)), _RATE, _STEPS):
        if (step + 1) % _LOOK_EVERY == 0:
            now = worth(made, clicks).click
            if now > reached:
                best, reached = copy.deepcopy(made), now
    return best, 0.0 if best is judge else reached - before
