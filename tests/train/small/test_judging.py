"""The judge learns to take the right one of several masks, and what a mask is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.models.small.decoder import DESCRIBED, MASKS
from napari_histosam.models.small.network import SmallNet
from napari_histosam.train.small.judging import fit_judge, gather, worth
from napari_histosam.train.small.windows import Example, Windows

if TYPE_CHECKING:
    from napari_histosam.train.small.pool import Picture


def example(rng: np.random.Generator, octaves: int) -> Example:
    """Masks that are the better the larger their first number is."""
    count = MASKS * octaves if octaves else 1
    described = rng.normal(size=(count, DESCRIBED)).astype(np.float32)
    described[:, 0] *= 3
    ious = (1 / (1 + np.exp(-described[:, 0]))).astype(np.float32)
    kinds = np.arange(count) % MASKS
    return Example(described, kinds, np.full(count, 100.0, np.float32), ious)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    return [example(rng, int(rng.integers(0, 4))) for _ in range(300)]


def test_it_learns_which_mask_is_meant(examples: list[Example]) -> None:
    torch.manual_seed(0)
    judge = SmallNet().judge.eval()
    rng = np.random.default_rng(1)
    unseen = [example(rng, octaves) for octaves in (0, 1, 2, 3) * 20]
    before = worth(judge, unseen)
    fit_judge(judge, examples, seed=0)
    after = worth(judge, unseen)
    assert before.oracle == after.oracle
    assert after.click > before.click + 0.1
    assert after.click > 0.8 * after.oracle
    assert after.click_error < 0.15
    assert after.first_best > 0.5
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_the_seed_decides(examples: list[Example]) -> None:
    def learned(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        judge = SmallNet().judge
        fit_judge(judge, examples[:40], seed)
        return judge.tell.weight

    assert torch.equal(learned(1), learned(1))
    assert not torch.equal(learned(1), learned(2))


def test_no_examples_of_a_kind_give_no_figure() -> None:
    rng = np.random.default_rng(0)
    judge = SmallNet().judge.eval()
    found = worth(judge, [example(rng, 0)])
    assert math.isnan(found.click)
    assert math.isnan(found.first_best)
    assert 0 <= found.other_error <= 1


def test_windows_are_gathered_in_order_by_any_number_of_processes(nuclei: list[Picture]) -> None:
    torch.manual_seed(0)
    net = SmallNet().eval()
    alone = gather(net, nuclei, seed=1, windows=2, workers=0)
    shared = gather(net, nuclei, seed=1, windows=2, workers=1)
    assert len(alone) == len(shared) > 2
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_allclose(one.ious, other.ious, atol=1e-5)
        np.testing.assert_allclose(one.described, other.described, atol=1e-3, rtol=1e-2)
    assert net.training is False
    assert isinstance(Windows(net.for_inference(), nuclei, 1, 2)[0], list)
