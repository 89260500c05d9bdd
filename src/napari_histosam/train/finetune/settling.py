"""The last part of a run: what in a model compares its answers learns from the trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import Cancelled
from napari_histosam.models.trainable import Judged
from napari_histosam.train.finetune.asking import turned
from napari_histosam.train.finetune.step import sample_seed
from napari_histosam.train.finetune.windows import Reader
from napari_histosam.train.small import stain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.windows import Sample
    from napari_histosam.train.small.rejudging import Shown

# Windows are looked at this often, each time laid down another way, and so many in all at most.
_ROUNDS, _LOOKS = 8, 160
_OBJECTS = 6
_RECOLOURED = 0.3


def settled(
    model: Trainable,
    train: Sequence[Sample],
    val: Sequence[Sample],
    seed: int,
    stop: Callable[[], bool],
) -> tuple[dict[str, Tensor], float]:
    """Teach a model with a judge anew which of its masks a click means; most have none.

    Parameters
    ----------
    model : Trainable
        With the weights of the best epoch; it stays as it is.
    train, val : sequence of Sample
        To learn from, and to choose by.
    seed : int
    stop : callable
        Asked between windows.

    Returns
    -------
    state : dict of str to tensor
        To be kept with what was trained; empty where nothing was gained.
    gain : float
        In IoU at one click, on ``val``.

    Raises
    ------
    Cancelled
        If ``stop`` said so.
    """
    if not isinstance(model, Judged):
        return {}, 0.0
    from napari_histosam.train.small.rejudging import asked_for, rejudged

    net = model.judged()
    learned = asked_for(net, _looks(train, seed, _ROUNDS, stop))
    held_out = asked_for(net, _looks(val, seed, 1, stop))
    judge, gain = rejudged(net.judge, learned, held_out, seed)
    if judge is net.judge:
        return {}, 0.0
    parts = judge.state_dict(prefix="judge.")
    return {name: value.detach().cpu().contiguous() for name, value in parts.items()}, gain


def _looks(
    samples: Sequence[Sample], seed: int, rounds: int, stop: Callable[[], bool]
) -> Iterator[tuple[Shown, int]]:
    from napari_histosam.train.small.rejudging import Shown

    reader = Reader()
    count = min(_LOOKS, rounds * len(samples))
    # Spread over all windows where not all of them can be looked at.
    for look in range(count):
        if stop():
            raise Cancelled("The run was paused.")
        turn, place = divmod(look, len(samples))
        sample = samples[place if count >= len(samples) else place * len(samples) // count]
        rng = np.random.default_rng([seed, turn, 6, *sample_seed(sample)])
        view = reader.read(sample)
        if rounds > 1:
            recolour = stain.recoloured if rng.random() < _RECOLOURED else None
            view = turned(view, rng, recolour)
        order = rng.permutation(len(sample.numbers))[:_OBJECTS]
        numbers = [sample.numbers[i] for i in order]
        yield Shown(view.image, view.labels, numbers), int(rng.integers(1 << 31))
