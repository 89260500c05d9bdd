"""Scores are taught last: the score head alone learns what the masks are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_histosam.models.small.encoder import Features
from napari_histosam.models.small.network import SmallNet
from napari_histosam.train.small.batches import Batch, Batches
from napari_histosam.train.small.prompting import Asked
from napari_histosam.train.small.scores import fit_scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.models.small.prompt_maps import PromptBatch
    from napari_histosam.train.small.pool import Picture

SIDE = 64


class Stub(nn.Module):
    """A network that shows the dark object, then nothing twice; its scores are three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = nn.Linear(2, 2)
        self.decoder = nn.Module()
        self.decoder.score = nn.Linear(1, 3)
        nn.init.zeros_(self.decoder.score.weight)
        nn.init.zeros_(self.decoder.score.bias)

    def encode(self, pixels: torch.Tensor) -> Features:
        return Features(pixels, pixels, pixels, pixels)

    def decode(self, features: Features, prompts: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
        small = nn.functional.avg_pool2d(features.half, 2).mean(1)
        dark = torch.where(small < 0.6, 8.0, -8.0)
        none = torch.full_like(dark, -8.0)
        count = len(dark)
        return torch.stack([dark, none, none], 1), self.decoder.score(torch.ones(count, 1))

    def told(self) -> list[float]:
        with torch.no_grad():
            return self.decoder.score(torch.ones(1, 1))[0].tolist()


@pytest.fixture
def truth(disc: Callable) -> NDArray[np.bool_]:
    return disc(32, 32, 16, SIDE)


def batches(truth: NDArray[np.bool_], asked: Callable[[], Asked], area: float = 1.0) -> list[Batch]:
    """Forty times the same: one crop and one object, whose area is a multiple of what is seen."""
    pixels = torch.where(torch.from_numpy(truth), 0.2, 0.9).expand(1, 3, SIDE, SIDE).clone()
    areas, of = torch.tensor([area * float(truth.sum())]), torch.zeros(1, dtype=torch.long)
    return [Batch(pixels, [asked()], areas, of) for _ in range(40)]


def test_a_single_click_teaches_all_three_scores(truth) -> None:
    net = Stub()
    found = fit_scores(net, batches(truth, lambda: Asked(truth, [(32.0, 32.0)], [1])), 40, False)
    right, *wrong = net.told()
    assert right > 0.02
    assert max(wrong) < -0.02
    assert found["train_iou"] > 0.95
    # Two at 0 and one near 1, and all three predicted at about a half.
    assert found["score_error"] == pytest.approx(0.47, abs=0.04)


def test_a_clear_prompt_teaches_the_score_of_the_first_mask_alone(truth) -> None:
    net = Stub()
    box = np.array([16.0, 16, 48, 48])
    found = fit_scores(net, batches(truth, lambda: Asked(truth, box=box)), 40, False)
    right, *others = net.told()
    assert right > 0.02
    assert others == [0.0, 0.0]
    assert found["score_error"] == pytest.approx(found["train_iou"] - 0.52, abs=0.04)


def test_what_lies_beyond_the_crop_counts(truth) -> None:
    net = Stub()
    made = batches(truth, lambda: Asked(truth, [(32.0, 32.0)], [1]), area=4.0)
    found = fit_scores(net, made, 40, False)
    assert net.told()[0] < -0.01
    assert found["train_iou"] == pytest.approx(0.25, abs=0.01)


def test_scores_learn_from_corrected_prompts(truth) -> None:
    net, half = Stub(), truth & (np.arange(SIDE) < 32)
    made = batches(half, lambda: Asked(half, [(24.0, 32.0)], [1], corrections=2))
    made = [one._replace(pixels=batches(truth, lambda: Asked(half))[0].pixels) for one in made]
    fit_scores(net, made, 40, False)
    assert all(len(one.asked[0].points) == 3 for one in made)
    assert all(not one.asked[0].ambiguous for one in made)
    assert net.told()[1:] == [0.0, 0.0]


def test_only_the_score_head_changes(nuclei: list[Picture]) -> None:
    torch.manual_seed(0)
    net = SmallNet().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = Batches(nuclei, seed=1, size=2, length=3, plain=True)
    fit_scores(net, [made[number] for number in range(3)], 3, False)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) is not name.startswith("decoder.score."), name
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not any(module.training for module in net.modules())


def test_figures_can_be_kept_in_a_checkpoint(truth) -> None:
    asked = Asked(truth, [(32.0, 32.0)], [1])
    found = fit_scores(Stub(), batches(truth, lambda: asked)[:3], 3, True)
    assert set(found) == {"loss", "mask_loss", "score_error", "train_iou"}
    assert found["mask_loss"] == 0
    assert all(type(value) is float for value in found.values())  # others are not read back
