"""The loss: lower for better answers, and taught to those masks that should learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.models.small import loss
from napari_histosam.train.small.loss import ious, losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def tensor(mask: np.ndarray) -> Tensor:
    return torch.from_numpy(mask)[None]


def answer(*masks: np.ndarray, height: float = 6.0) -> Tensor:
    """Logits (1, 3, 64, 64) that say three masks of 128 x 128 px."""
    three = np.stack(masks if len(masks) == 3 else [*masks] * 3)
    half = three.reshape(3, 64, 2, 64, 2).mean((2, 4))
    return torch.from_numpy((half - 0.5) * 2 * height).float()[None]


def judged(
    logits: Tensor,
    truth: np.ndarray,
    *,
    scores: Tensor | None = None,
    ambiguous: bool = False,
    area: float | None = None,
) -> loss.Losses:
    return losses(
        logits,
        torch.zeros(1, 3) if scores is None else scores,
        tensor(truth),
        torch.tensor([float(truth.sum()) if area is None else area]),
        torch.tensor([ambiguous]),
    )


@pytest.mark.parametrize("ambiguous", [False, True])
@pytest.mark.parametrize("radius", [6, 20, 50])
def test_better_masks_cost_less(disc: Callable, radius: int, ambiguous: bool) -> None:
    truth, nothing = disc(64, 64, radius), np.zeros((128, 128), bool)
    shifted = [disc(64 + radius * share, 64, radius) for share in (0.25, 0.6, 2.1)]

    def judge(mask: np.ndarray) -> loss.Losses:
        return judged(answer(mask), truth, ambiguous=ambiguous)

    best, *worse = [judge(mask) for mask in (truth, *shifted)]
    totals = [float(one.total) for one in (best, *worse, judge(~truth))]
    assert totals == sorted(totals)
    assert totals[0] < totals[1] / 2
    assert totals[1] < float(judge(nothing).total) < totals[-1]
    assert float(best.mask) < 0.5
    assert float(best.iou) > 0.92
    assert 0.6 < float(worse[0].iou) < 0.8
    assert float(worse[2].iou) == float(judge(nothing).iou) == 0


@pytest.mark.parametrize("ambiguous", [False, True])
def test_where_there_is_nothing_the_loss_is_finite(disc: Callable, ambiguous: bool) -> None:
    nothing = np.zeros((128, 128), bool)
    costs = []
    for mask in (nothing, disc(64, 64, 5), disc(64, 64, 30), ~nothing):
        logits = answer(mask, height=25.0).requires_grad_()
        scores = torch.zeros(1, 3, requires_grad=True)
        found = judged(logits, nothing, scores=scores, ambiguous=ambiguous)
        found.total.backward()
        assert all(torch.isfinite(part) for part in found)
        assert torch.isfinite(logits.grad).all()
        assert torch.isfinite(scores.grad).all()
        assert float(found.iou) == 0
        costs.append(float(found.mask))
    assert costs == sorted(costs)
    assert costs[0] < 0.01  # nothing is the right answer
    assert costs[1] > 1


def gradients(logits: Tensor, truth: np.ndarray, ambiguous: bool) -> list[Tensor]:
    leaf = logits.clone().requires_grad_()
    judged(leaf, truth, ambiguous=ambiguous).total.backward()
    return list(leaf.grad[0])


@pytest.mark.parametrize("better", [1, 2])
def test_only_the_better_guess_learns_from_a_single_click(disc: Callable, better: int) -> None:
    truth, near, far = disc(64, 64, 20), disc(68, 64, 20), disc(84, 64, 20)
    masks = [disc(60, 64, 20), near, far] if better == 1 else [disc(60, 64, 20), far, near]
    logits = answer(*masks, height=2.0)
    clear, doubtful = gradients(logits, truth, False), gradients(logits, truth, True)
    worse = 3 - better
    # Each of the two gets the same small share where the prompt is clear, so that the ratios say
    # what is left of it: all and a bit of the better one's, only the bit of the other's.
    whole, bit = 1 + loss._BOTH_OTHERS, loss._BOTH_OTHERS
    assert torch.equal(doubtful[0], clear[0])
    for mask, share in ((better, whole), (worse, bit)):
        wanted = clear[mask] * share / loss._CLEAR_OTHERS
        assert torch.allclose(doubtful[mask], wanted, rtol=1e-4, atol=1e-9)
        assert doubtful[mask].abs().sum() > 0
    assert doubtful[better].abs().sum() > 5 * doubtful[worse].abs().sum()


def test_each_object_learns_by_its_own_prompt(disc: Callable) -> None:
    truth = torch.cat([tensor(disc(64, 64, 20)), tensor(disc(64, 64, 20))])
    logits = answer(disc(60, 64, 20), disc(68, 64, 20), disc(84, 64, 20), height=2.0)
    leaf = torch.cat([logits, logits]).requires_grad_()
    areas = truth.sum((1, 2)).float()
    found = losses(leaf, torch.zeros(2, 3), truth, areas, torch.tensor([True, False]))
    found.total.backward()
    doubtful = gradients(logits, disc(64, 64, 20), True)
    clear = gradients(logits, disc(64, 64, 20), False)
    for mask in range(3):
        assert torch.allclose(leaf.grad[0, mask] * 2, doubtful[mask], rtol=1e-4, atol=1e-9)
        assert torch.allclose(leaf.grad[1, mask] * 2, clear[mask], rtol=1e-4, atol=1e-9)


def test_scores_learn_the_iou(disc: Callable) -> None:
    truth = disc(64, 64, 20)
    logits = answer(truth, disc(74, 64, 20), np.zeros((128, 128), bool))
    scores = torch.zeros(1, 3, requires_grad=True)
    judged(logits, truth, scores=scores).total.backward()
    good, middling, bad = scores.grad[0]
    assert good < 0  # is to rise
    assert bad > 0
    full = torch.nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear")
    wanted = ious(full > 0, tensor(truth), torch.tensor([float(truth.sum())]))
    assert wanted[0, 0] > 0.93
    assert wanted[0, 2] == 0
    right = torch.logit(wanted, eps=1e-4).requires_grad_()
    found = judged(logits, truth, scores=right)
    found.total.backward()
    assert found.score < 1e-3
    assert right.grad.abs().max() < 1e-3
    assert abs(middling) < abs(bad)
    wrong = judged(logits, truth, scores=-4 * torch.ones(1, 3))
    assert wrong.total > found.total
    assert float(wrong.score) == pytest.approx(float((wanted - 0.018).abs().mean()), abs=1e-3)


def test_scores_do_not_bend_the_masks(disc: Callable) -> None:
    truth = disc(64, 64, 20)
    logits = answer(disc(70, 64, 20), height=2.0)
    grads = []
    for value in (-3.0, 3.0):
        leaf = logits.clone().requires_grad_()
        judged(leaf, truth, scores=torch.full((1, 3), value)).total.backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_the_iou_counts_what_lies_beyond_the_crop() -> None:
    truth = np.zeros((1, 8, 8), bool)
    truth[0, :, :4] = True  # 32 px here, of 96 in all
    masks = np.zeros((1, 3, 8, 8), bool)
    masks[0, 0] = truth[0]
    masks[0, 1, :, :6] = True
    found = ious(torch.from_numpy(masks), torch.from_numpy(truth), torch.tensor([96.0]))
    assert found[0].tolist() == pytest.approx([32 / 96, 32 / (48 + 96 - 32), 0])
    found = ious(torch.from_numpy(masks), torch.from_numpy(truth), torch.tensor([32.0]))
    assert found[0].tolist() == pytest.approx([1, 32 / 48, 0])


def test_the_log_keeps_no_graph(disc: Callable) -> None:
    logits = answer(disc(64, 64, 20)).requires_grad_()
    scores = torch.zeros(1, 3, requires_grad=True)
    found = judged(logits, disc(64, 64, 20), scores=scores)
    assert found.total.requires_grad
    assert not any(part.requires_grad for part in found[1:])


def test_small_objects_count_about_as_much_as_large_ones(disc: Callable) -> None:
    costs = [
        float(judged(answer(disc(64 + r / 3, 64, r), height=2.0), disc(64, 64, r)).mask)
        for r in (12, 24, 48)
    ]
    assert max(costs) < 2 * min(costs)
