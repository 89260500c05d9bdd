"""Asks more often for what the model got wrong: draws windows and objects by recorded corrections.

The more the accepted outline of an object differs from the model's first mask, the more often the
object is asked for: its weight is 1 + K (1 - IoU), and 1 where no first mask is recorded. An epoch
still has as many windows, and a window as many questions, as without weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.train.finetune.windows import Sample


def weights(sample: Sample, strength: float) -> NDArray[np.float64]:
    """Return the weight of each object of a window, in the order of its numbers.

    Parameters
    ----------
    sample : Sample
    strength : float
        K; 0 makes all weights 1.
    """
    told = [sample.entry.recorded.get(number) for number in sample.numbers]
    ious = [1.0 if one is None or one.first_iou is None else one.first_iou for one in told]
    return 1 + strength * (1 - np.array(ious, np.float64))


def drawn(worth: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of n things to take, ``count`` draws, each as often as its weight says.

    How often a thing is drawn differs by less than 1 from ``count`` times its share of the
    weights, and is that on average (systematic sampling, Madow & Madow 1944). With equal weights
    and no more draws than things, these are the first of a random order, each once.
    """
    order = rng.permutation(len(worth))
    if (worth == worth[0]).all() and count <= len(worth):
        return order[:count]
    reached = np.cumsum(worth[order])
    places = (rng.random() + np.arange(count)) / count
    # What rounding lets fall beyond the last one belongs to it.
    found = np.searchsorted(reached / reached[-1], places, side="right")
    return order[np.minimum(found, len(worth) - 1)]


def epoch_of(samples: Sequence[Sample], strength: float, seed: int, epoch: int) -> list[Sample]:
    """Return the windows of an epoch in their order.

    A window weighs what its objects weigh on average, so that each object is asked for in
    proportion to its own weight, whatever else its window shows.

    Returns
    -------
    list of Sample
        As many as there are; one that is taken again has another ``turn``.
    """
    order = np.random.default_rng((seed, epoch, 1)).permutation(len(samples))
    means = np.array([weights(sample, strength).mean() for sample in samples])
    if (means == means[0]).all():
        return [samples[i] for i in order]
    taken = np.sort(drawn(means, len(samples), np.random.default_rng((seed, epoch, 2))))
    turns = np.arange(len(taken)) - np.searchsorted(taken, taken)
    return [replace(samples[taken[i]], turn=int(turns[i])) for i in order]
