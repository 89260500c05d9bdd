"""After fine-tuning the judge is taught anew, and only a better one is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.models.small.decoder import DESCRIBED, MASKS
from napari_histosam.models.small.network import SmallNet
from napari_histosam.train.small.judging import fit_judge, worth
from napari_histosam.train.small.rejudging import Shown, asked_for, rejudged
from napari_histosam.train.small.windows import Example

if TYPE_CHECKING:
    from napari_histosam.models.small.judge import Judge
    from napari_histosam.train.small.pool import Picture


def example(rng: np.random.Generator, sign: float) -> Example:
    """Masks that are the better the larger (or smaller) their first number is."""
    count = 4 * MASKS
    described = rng.normal(size=(count, DESCRIBED)).astype(np.float32)
    ious = (1 / (1 + np.exp(-3 * sign * described[:, 0]))).astype(np.float32)
    kinds = np.arange(count) % MASKS
    return Example(described, kinds, np.full(count, 100.0, np.float32), ious)


def several(seed: int, sign: float, count: int = 200) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [example(rng, sign) for _ in range(count)]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One that has learned that large is good."""
    torch.manual_seed(0)
    made = SmallNet().judge
    fit_judge(made, several(0, 1.0), seed=0)
    return made


def test_it_learns_what_is_different_here(judge: Judge) -> None:
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    unseen = several(2, -1.0, 60)
    made, gain = rejudged(judge, several(1, -1.0), several(3, -1.0, 60), seed=0)
    assert made is not judge
    assert gain > 0.1
    assert worth(made, unseen).click > worth(judge, unseen).click + 0.1
    for name, value in judge.state_dict().items():
        assert torch.equal(value, before[name])  # the one given stays as it is


def test_what_does_not_help_is_not_kept(judge: Judge) -> None:
    # Taught the opposite of what is held out.
    made, gain = rejudged(judge, several(1, -1.0, 40), several(3, 1.0, 40), seed=0)
    assert made is judge
    assert gain == 0.0


def test_nothing_to_learn_from_or_to_choose_by_changes_nothing(judge: Judge) -> None:
    assert rejudged(judge, [], several(1, 1.0, 2), seed=0) == (judge, 0.0)
    assert rejudged(judge, several(1, 1.0, 2), [], seed=0) == (judge, 0.0)


def test_objects_of_windows_are_asked_for(nuclei: list[Picture]) -> None:
    torch.manual_seed(0)
    net = SmallNet().eval()
    picture = nuclei[0]
    side = 128
    image, labels = picture.image[:side, :side], picture.labels[:side, :side].astype(np.int32)
    numbers = [int(n) for n in np.unique(labels) if n][:2]
    windows = [(Shown(image, labels, [*numbers, 9_999]), 3)]  # the last one is not there
    found, again = asked_for(net, windows), asked_for(net, windows)
    assert len(found) >= len(numbers)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.ious, other.ious)
        assert one.described.shape == (len(one.ious), DESCRIBED)
    assert not net.training
