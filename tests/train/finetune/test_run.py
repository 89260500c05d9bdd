"""Runs: what they write, how they stop and go on, what they refuse, one process or two."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.errors import Cancelled, InputError
from napari_histosam.models import files
from napari_histosam.train.finetune import loop, step
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.loop import Loop
from napari_histosam.train.finetune.step import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.finetune.plan import Plan

CHILD = Path(__file__).with_name("killed_child.py")
# Seconds differ from run to run.
CURVE = ("step", "loss", "train_iou", "val_iou", "val_click1", "val_box")


def curve(out: Path, kind: str = "epoch") -> list[tuple[Any, ...]]:
    rows = [row for row in RunFolder(out).rows() if row["kind"] == kind]
    return [tuple(row.get(name) for name in CURVE) for row in rows]


def test_a_run_tells_how_it_goes_and_keeps_what_is_best(plan: Callable, train: Callable) -> None:
    one: Plan = plan()
    status = train(one)
    assert status["state"] == "done"
    assert status["plan"]["seed"] == 0
    assert status["step"] == status["steps"] == 4
    assert "all epochs are done" in status["message"]
    rows = RunFolder(one.out).rows()
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [0, 1, 2]
    assert epochs[0]["loss"] is None
    for row in epochs[1:]:
        assert row["loss"] > 0
        assert 0 <= row["val_iou"] <= 1
        assert set(row["dice"]) == {"nucleus"}
    with (one.out / "log.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert float(table[2]["dice nucleus"]) == epochs[2]["dice"]["nucleus"]
    from safetensors.torch import load_file

    best = load_file(one.out / "best.safetensors")
    assert best
    assert all(name.startswith("decoder.") for name in best)
    assert len(list((one.out / "features").glob("*.npz"))) == 4
    # Finished: the same command tells the same again.
    assert train(one)["message"] == status["message"]


def test_a_paused_run_goes_on_as_if_it_had_not_been(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parted = plan("whole"), plan("parted")
    train(whole)
    learn = Loop._learn

    def stopped(self: Loop) -> None:
        learn(self)
        if self.step in (1, 3):
            self._folder.ask_to_stop()

    monkeypatch.setattr(Loop, "_learn", stopped)
    for reached in (1, 3):
        status = train(parted)
        assert status["state"] == "paused"
        assert f"({reached} of 4 steps)" in status["message"]
    assert train(parted)["state"] == "done"
    assert curve(parted.out) == curve(whole.out)


def test_a_killed_run_goes_on_with_the_same_curve(
    plan: Callable, train: Callable, tmp_path: Path
) -> None:
    whole = plan("whole")
    train(whole)
    asked = ("model", "method", "epochs", "batch", "objects", "accelerator", "threads")
    task = {
        "data": str(whole.data),
        "out": str(tmp_path / "killed"),
        "kill_at": 3,
        "plan": {name: getattr(whole, name) for name in asked},
    }
    done = subprocess.run([sys.executable, str(CHILD), json.dumps(task)], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert RunFolder(tmp_path / "killed").status()["state"] == "running"
    assert len(curve(tmp_path / "killed")) == 2
    killed = plan("killed")
    assert train(killed)["state"] == "done"
    assert curve(killed.out) == curve(whole.out)


def test_ctrl_c_pauses(plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    one = plan()
    learn = Loop._learn

    def interrupted(self: Loop) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        learn(self)

    monkeypatch.setattr(Loop, "_learn", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Cancelled, match="Paused at"):
        train(one)
    assert signal.getsignal(signal.SIGINT) is before
    assert RunFolder(one.out).status()["state"] == "paused"
    assert (one.out / "last.pt").is_file()


def test_a_run_that_gets_no_better_ends_early(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LEAST_GAIN", 1.0)  # nothing counts as better but the base
    status = train(plan(epochs=9, patience=2))
    assert status["state"] == "done"
    assert status["epoch"] == 2
    assert "2 epochs brought nothing better; the best was epoch 0" in status["message"]


def test_the_whole_network_can_be_trained(plan: Callable, train: Callable) -> None:
    from dataclasses import replace

    from safetensors.torch import load_file

    one = replace(plan(epochs=1, limit=1), method="full")
    assert train(one)["state"] == "done"
    assert not (one.out / "features").exists()
    assert any(n.startswith("encoder.") for n in load_file(one.out / "best.safetensors"))


def test_less_memory_means_smaller_parts_and_the_same_result(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, tight = plan("roomy", epochs=1), plan("tight", epochs=1)
    train(roomy)
    part = step.Teacher._part

    def small(self: step.Teacher, samples: Any, epoch: int) -> torch.Tensor:
        if len(samples) > 1 or self.memory.objects > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return part(self, samples, epoch)

    monkeypatch.setattr(step.Teacher, "_part", small)
    status = train(tight)
    assert status["state"] == "done"
    assert any("going on with 1 windows" in note for note in status["notes"])
    # Sums are added in another order.
    first, second = (np.array(curve(one.out)[1:], float) for one in (roomy, tight))
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_no_memory_at_all_is_one_sentence(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: step.Teacher, samples: Any, epoch: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(step.Teacher, "_part", never)
    one = plan()
    with pytest.raises(InputError, match="not enough memory on cpu to train histosam-small"):
        train(one)
    told = RunFolder(one.out).status()
    assert told["state"] == "failed"
    assert "choose the method decoder or a smaller model" in told["message"]


def test_memory_shrinks_by_halves_to_one() -> None:
    memory = Memory(4, 2)
    seen = []
    while memory.shrink():
        seen.append((memory.windows, memory.objects))
    assert seen == [(2, 2), (1, 2), (1, 1)]


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_stays(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = plan()
    learn, fsync = Loop._learn, os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def learning(self: Loop) -> None:
        learn(self)
        if self.step == 3:
            monkeypatch.setattr(files.os, "fsync", full)

    monkeypatch.setattr(Loop, "_learn", learning)
    with pytest.raises(InputError, match="The disk is full"):
        train(one)
    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(Loop, "_learn", learn)
    kept = RunFolder(one.out).load()
    assert kept is not None
    assert kept["step"] == 2
    assert not list(one.out.glob(".*.tmp"))
    assert train(one)["state"] == "done"


def test_a_folder_of_another_run_is_refused(plan: Callable, train: Callable) -> None:
    train(plan(epochs=1))
    with pytest.raises(InputError, match=r"holds a run with epochs 1: give the same options"):
        train(plan(epochs=2))
    path = plan().out / "last.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last.pt is damaged"):
        train(plan(epochs=1))


def test_two_runs_at_once_in_one_folder_are_refused(plan: Callable, train: Callable) -> None:
    one = plan(epochs=1)
    folder = RunFolder(one.out)
    folder.make()
    folder.tell("running", "At work.")
    told = json.loads((one.out / "run.json").read_text("utf-8"))
    (one.out / "run.json").write_text(json.dumps({**told, "pid": os.getppid()}), "utf-8")
    with pytest.raises(InputError, match=f"is being trained in by process {os.getppid()}"):
        train(one)
    assert folder.status()["message"] == "At work."


def test_a_loss_that_is_no_number_ends_the_run(plan: Callable, train: Callable) -> None:
    with pytest.raises(InputError, match="give a lower --rate"):
        train(plan(rate=1e18, epochs=4))


def test_devices_that_are_not_there_are_refused(plan: Callable, train: Callable) -> None:
    with pytest.raises(InputError, match="need a launcher: run, on each of them, torchrun"):
        train(plan(nodes=2))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'cuda' is not on this machine"):
            train(plan(accelerator="cuda"))
    with pytest.raises(InputError, match="unknown"):
        train(plan(accelerator="tpu"))


def test_two_processes_give_what_one_gives(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = plan("one", epochs=1), plan("two", epochs=1, devices=2)
    train(one)
    assert train(two)["state"] == "done"
    first, second = (np.array(curve(p.out)[1:], float)[:, :3] for p in (one, two))
    np.testing.assert_allclose(first, second, atol=5e-3)
