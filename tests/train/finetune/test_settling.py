"""The last part of a run: choosing among masks is learned anew, where that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_histosam.errors import Cancelled
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trainable import Judged
from napari_histosam.models.trained import build_trainable
from napari_histosam.train.finetune import settling
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.settling import settled
from napari_histosam.train.finetune.splits import divide
from napari_histosam.train.finetune.windows import cut
from napari_histosam.train.small import rejudging

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.finetune.plan import Plan


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let any new judge count as a better one; return how many examples each learned from."""
    learned: list[int] = []

    def rejudged(judge: Any, examples: Any, held_out: Any, seed: int) -> tuple[Any, float]:
        import copy

        learned.append(len(examples))
        made = copy.deepcopy(judge)
        with torch.no_grad():
            made.tell.bias += 1
        return made, 0.01

    monkeypatch.setattr(rejudging, "rejudged", rejudged)
    monkeypatch.setattr(settling, "_LOOKS", 3)
    return learned


def test_a_run_ends_with_it_once(
    plan: Callable[..., Plan],
    train: Callable[[Plan], dict[str, Any]],
    better: list[int],
) -> None:
    asked = plan(epochs=1)
    status = train(asked)
    assert status["state"] == "done"
    assert "+0.010 IoU at 1 click" in status["message"]
    (first,) = better
    assert first > 0
    kept = read_checkpoint(RunFolder(asked.out).best, strip=False)
    base = build_trainable(ModelRegistry(), asked.model, "full").module.judge.state_dict()
    assert torch.allclose(kept["judge.tell.bias"], base["tell.bias"] + 1)
    assert {name.partition(".")[0] for name in kept} == {"decoder", "judge"}
    # Run again, there is nothing left to do.
    assert train(asked)["state"] == "done"
    assert len(better) == 1


def test_it_can_be_stopped_and_gone_on_with(
    plan: Callable[..., Plan],
    train: Callable[[Plan], dict[str, Any]],
    better: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = plan(epochs=1)
    folder = RunFolder(asked.out)
    real = rejudging.asked_for

    def stopped(net: Any, windows: Any) -> Any:
        folder.ask_to_stop()
        return real(net, windows)

    monkeypatch.setattr(rejudging, "asked_for", stopped)
    status = train(asked)
    assert (status["state"], status["message"]) == ("paused", "Paused before the last part.")
    monkeypatch.setattr(rejudging, "asked_for", real)
    assert train(asked)["state"] == "done"
    assert len(better) == 1


def test_windows_are_looked_at_in_turn(plan: Callable[..., Plan]) -> None:
    asked = plan()
    model = build_trainable(ModelRegistry(), asked.model, asked.method)
    samples = cut(divide(asked).train, model.card)
    assert isinstance(model, Judged)
    with pytest.raises(Cancelled):
        settled(model, samples, samples, 0, lambda: True)
    looks = list(settling._looks(samples, 0, 2, lambda: False))
    assert len(looks) == 2 * len(samples)
    assert {len(shown.numbers) for shown, _ in looks} == {2}
    again = list(settling._looks(samples, 0, 2, lambda: False))
    assert [seed for _, seed in looks] == [seed for _, seed in again]
    assert len({seed for _, seed in looks}) == len(looks)
    # As they are where they are judged by.
    (plain, *_), _ = zip(*settling._looks(samples, 0, 1, lambda: False), strict=True)
    assert (plain.image == settling.Reader().read(samples[0]).image).all()


def test_a_model_without_a_judge_has_no_last_part() -> None:
    class Plain:
        """Whatever else it may offer."""

    assert settled(Plain(), [], [], 0, lambda: True) == ({}, 0.0)  # type: ignore[arg-type]
