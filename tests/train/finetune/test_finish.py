"""A run that is ended early: with what is best so far, or with nothing, and for good."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import psutil
import pytest
from safetensors.torch import load_file

from napari_histosam.errors import InputError
from napari_histosam.train.finetune import folder, loop
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def reaching(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what has validations reach given figures, one after the other."""

    def set_up(*ious: float) -> None:
        means, told = loop.means, itertools.chain(ious, itertools.repeat(ious[-1]))
        monkeypatch.setattr(loop, "means", lambda *given: {**means(*given), "val_iou": next(told)})

    return set_up


@pytest.fixture
def finish_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what has someone ask for the end after a step."""
    learn = Loop._learn

    def set_up(step: int, stop: bool = False) -> None:
        def learning(self: Loop) -> None:
            assert self.step < step, "the run was to end"
            learn(self)
            if self.step == step:
                (self._folder.ask_to_stop if stop else self._folder.ask_to_finish)()

        monkeypatch.setattr(Loop, "_learn", learning)

    return set_up


def test_it_keeps_the_best_epoch_and_is_done_for_good(
    plan: Callable, train: Callable, reaching: Callable, finish_at: Callable
) -> None:
    one = plan(epochs=4)
    reaching(0.5, 0.6, 0.55)
    finish_at(5)  # two epochs of two steps, and one more
    status = train(one)
    assert (status["state"], status["early"], status["best_epoch"]) == ("done", True, 1)
    assert "Finished early after 2.5 of 4 epochs (5 of 8 steps), as asked" in status["message"]
    assert status["message"].endswith("; the best was epoch 1.")
    assert not (one.out / "finish").exists()
    kept, best = RunFolder(one.out).load(), load_file(one.out / "best.safetensors")
    assert kept["step"] == 5
    assert any(not value.equal(best[name]) for name, value in kept["trained"].items())
    # The same command takes no further step and tells the same.
    again = train(one)
    assert {k: again[k] for k in ("state", "message", "early", "best_epoch")} == {
        k: status[k] for k in ("state", "message", "early", "best_epoch")
    }
    assert RunFolder(one.out).load()["step"] == 5


def test_a_run_that_has_got_no_better_says_so(
    plan: Callable, train: Callable, reaching: Callable, finish_at: Callable
) -> None:
    reaching(0.5, 0.4)
    finish_at(3)
    status = train(plan())
    assert (status["state"], status["early"], status["best_epoch"]) == ("done", True, 0)
    assert status["message"].endswith(
        "as asked: no epoch was better than histosam-small, so there is no new model."
    )


def test_a_paused_run_can_be_finished(
    plan: Callable, train: Callable, reaching: Callable, finish_at: Callable
) -> None:
    one = plan()
    reaching(0.5, 0.6)
    finish_at(3, stop=True)
    assert train(one)["state"] == "paused"
    RunFolder(one.out).ask_to_finish()
    status = train(one)
    assert (status["state"], status["early"]) == ("done", True)
    assert "(3 of 4 steps)" in status["message"]


def test_one_that_dies_while_it_ends_ends_the_same(
    plan: Callable,
    train: Callable,
    reaching: Callable,
    finish_at: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = plan()
    reaching(0.5, 0.6)
    finish_at(3)
    tell = RunFolder.tell

    def dying(self: RunFolder, state: str, *more: object, **words: object) -> dict:
        if state == "done":
            raise KeyboardInterrupt
        return tell(self, state, *more, **words)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "tell", dying)
        with pytest.raises(KeyboardInterrupt):
            train(one)
    assert RunFolder(one.out).status()["state"] == "running"
    status = train(one)
    assert (status["state"], status["best_epoch"]) == ("done", 1)
    assert "(3 of 4 steps)" in status["message"]
    assert not (one.out / "finish").exists()


def test_a_run_of_a_process_whose_number_another_has_got_is_not_at_work(
    plan: Callable, train: Callable
) -> None:
    one = plan(epochs=1)
    here = RunFolder(one.out)
    here.make()
    here.tell("running", "At work.")
    told = one.out / "run.json"
    parent = psutil.Process(os.getppid())
    told.write_text(told.read_text("utf-8").replace(str(os.getpid()), str(parent.pid)), "utf-8")
    assert here.at_work()
    with pytest.raises(InputError, match="is being trained in by process"):
        train(one)
    before = parent.create_time() - 10 * folder._CLOCK
    os.utime(told, (before, before))
    assert not here.at_work()
    for nobody in (-1, 2**40, None, "1"):
        assert not folder._is_another(nobody, 2e9)


def test_the_first_process_tells_the_others() -> None:
    """They must not look themselves: one would see the file and go, while the others wait."""

    class Fabric:
        global_rank = 1

        def broadcast(self, mine: object) -> object:
            assert mine == (False, False)
            return (False, True)

    one = object.__new__(Loop)
    one._fabric = Fabric()  # type: ignore[assignment]
    assert one._wishes() == (False, True)
