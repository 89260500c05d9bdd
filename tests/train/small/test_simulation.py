"""Simulated corrections: as many as are to follow, on what the network answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.train.small.batches import Batch
from napari_histosam.train.small.prompting import Asked
from napari_histosam.train.small.simulation import precision, simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE = 64
BOX = np.array([12.0, 12, 44, 44])


@pytest.fixture
def truth(disc: Callable) -> NDArray[np.bool_]:
    return disc(28, 28, 16, SIDE)


def batch_of_one(truth: NDArray[np.bool_], *asked: Asked) -> Batch:
    """One crop that shows the object dark, and what is asked for in it."""
    pixels = torch.where(torch.from_numpy(truth), 0.2, 0.9).expand(1, 3, SIDE, SIDE).clone()
    count = len(asked)
    areas = torch.full((count,), float(truth.sum()))
    return Batch(pixels, list(asked), areas, torch.zeros(count, dtype=torch.long))


def corrected(net: object, batch: Batch, seed: int = 0, half: bool = False) -> None:
    features = net.encode(batch.pixels)
    simulate(net, batch, features, np.random.default_rng(seed), half)


def test_each_gets_as_many_corrections_as_it_is_to_have(dark_net, truth) -> None:
    net = dark_net(lambda clicks, boxed: (False, False, False))
    asked = [Asked(truth, box=BOX, corrections=count) for count in (0, 3, 1, 4, 2)]
    corrected(net, batch_of_one(truth, *asked))
    assert [len(one.points) for one in asked] == [0, 3, 1, 4, 2]
    assert [len(step.labels) for step in net.asked] == [4, 3, 2, 1]  # who is still to be asked
    for one in asked:
        assert one.labels == [1] * len(one.points)
        assert all(truth[int(y), int(x)] for x, y in one.points)
        assert (one.previous is None) == (one.corrections == 0)
        if one.previous is not None:
            assert one.previous.shape == (SIDE // 2, SIDE // 2)
            assert one.previous.max() < 0.01  # nothing was seen
    # Every prompt but the first goes with what was answered before.
    assert net.asked[0].previous.isnan().all()
    assert not net.asked[1].previous.isnan().any()


def test_what_is_right_is_left_alone(dark_net, truth) -> None:
    net = dark_net(lambda clicks, boxed: (True, True, True))
    one = Asked(truth, [(28.0, 28.0)], [1], corrections=4)
    # The mask comes at half the resolution: let it be right there.
    shape = torch.nn.functional.avg_pool2d(torch.from_numpy(truth)[None].float(), 2) > 0.5
    one.truth = shape[0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()
    corrected(net, batch_of_one(one.truth, one))
    assert (one.points, one.previous) == ([(28.0, 28.0)], None)


def test_too_much_is_clicked_away(dark_net, truth, disc: Callable) -> None:
    net = dark_net(lambda clicks, boxed: (True, True, True))
    half = truth & (np.arange(SIDE) < 28)
    one = Asked(half, [(20.0, 28.0)], [1], corrections=1)
    corrected(net, batch_of_one(truth, one))
    assert one.labels == [1, 0]
    x, y = one.points[1]
    assert truth[int(y), int(x)]
    assert not half[int(y), int(x)]
    assert one.previous is not None
    assert one.previous[14, 14] > 0.9


def test_nobody_to_correct_costs_nothing(dark_net, truth) -> None:
    net = dark_net(lambda clicks, boxed: (True, True, True))
    corrected(net, batch_of_one(truth, Asked(truth, box=BOX)))
    assert net.asked == []


def test_of_a_single_click_the_mask_with_the_best_score_is_corrected(dark_net, truth) -> None:
    net = dark_net(lambda clicks, boxed: (False, False, True), (0.3, 0.2, 0.9))
    half = truth & (np.arange(SIDE) < 28)
    click, box = (
        Asked(half, [(20.0, 28.0)], [1], corrections=1),
        Asked(half, box=BOX, corrections=1),
    )
    corrected(net, batch_of_one(truth, click, box))
    assert click.labels == [1, 0]  # of the third mask, which shows too much
    assert box.labels == [1]  # of the first one, which shows nothing


def test_clicks_lie_somewhere_in_the_error(dark_net, truth) -> None:
    def clicked(seed: int) -> tuple[float, float]:
        net = dark_net(lambda clicks, boxed: (False, False, False))
        one = Asked(truth, box=BOX, corrections=1)
        corrected(net, batch_of_one(truth, one), seed)
        return one.points[0]

    assert clicked(1) == clicked(1)
    assert len({clicked(seed) for seed in range(12)}) > 8


def test_now_and_then_the_earlier_mask_is_a_coarse_one(dark_net, truth) -> None:
    half = truth & (np.arange(SIDE) < 28)

    def earlier(seed: int) -> NDArray[np.float32]:
        net = dark_net(lambda clicks, boxed: (True, True, True))
        one = Asked(half, box=BOX, corrections=1)
        corrected(net, batch_of_one(truth, one), seed)
        assert one.previous is not None
        return one.previous

    masks = [earlier(seed) for seed in range(60)]
    sharp = max(masks, key=lambda mask: float(np.abs(mask - 0.5).sum()))
    coarse = [mask for mask in masks if not np.array_equal(mask, sharp)]
    assert 6 < len(coarse) < 35
    for mask in coarse:
        assert mask.shape == sharp.shape
        assert ((mask > 0.5) == (sharp > 0.5)).mean() > 0.95
        assert ((mask > 0.1) & (mask < 0.9)).sum() > ((sharp > 0.1) & (sharp < 0.9)).sum()


def test_precision(dark_net, truth) -> None:
    with precision("cpu", True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with precision("cpu", False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    for half in (True, False):
        net = dark_net(lambda clicks, boxed: (False, False, False))
        corrected(net, batch_of_one(truth, Asked(truth, box=BOX, corrections=1)), half=half)
        assert net.halved is half
