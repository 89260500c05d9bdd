"""Processes that die: the trainer at bad moments, one of several, the one that started them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from safetensors.torch import load_file

from napari_histosam.train.finetune.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.finetune.plan import Plan

CHILD = Path(__file__).with_name("killed_child.py")
ASKED = ("model", "method", "epochs", "patience", "batch", "objects")
WHERE = ("accelerator", "threads", "devices")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


def command(plan: Plan, **more: Any) -> list[str]:
    asked = {name: getattr(plan, name) for name in (*ASKED, *WHERE)}
    task = {"data": str(plan.data), "out": str(plan.out), "plan": asked, **more}
    return [sys.executable, str(CHILD), json.dumps(task)]


def killed(plan: Plan, **more: Any) -> None:
    """Run a plan until its process kills itself."""
    done = subprocess.run(command(plan, **more), timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert RunFolder(plan.out).status()["state"] == "running"


def curve(out: Path) -> list[tuple[Any, ...]]:
    rows = [row for row in RunFolder(out).rows() if row["kind"] == "epoch"]
    return [tuple(row[name] for name in ("step", "loss", "train_iou", "val_iou")) for row in rows]


def left_over(out: Path) -> list[Path]:
    return [*out.rglob(".*.tmp")]


def test_a_trainer_that_dies_while_it_writes_goes_on_with_the_same_curve(
    plan: Callable[..., Plan], train: Callable
) -> None:
    whole, parted = plan("whole"), plan("parted")
    train(whole)
    killed(parted, kill_write=1)  # the very first checkpoint
    assert not RunFolder(parted.out).last.exists()
    assert left_over(parted.out)
    # Epoch 0, step 1, and epoch 1, of which the best weights and the row are written already.
    killed(parted, kill_write=3)
    assert len(curve(parted.out)) == 2
    kept = RunFolder(parted.out).load()
    assert kept is not None
    assert kept["step"] == 1
    assert train(parted)["state"] == "done"
    assert curve(parted.out) == curve(whole.out)
    assert left_over(parted.out) == []
    first, second = (load_file(one.out / "best.safetensors") for one in (parted, whole))
    assert all(value.equal(second[name]) for name, value in first.items())


@pytest.mark.slow
def test_a_trainer_that_dies_at_any_moment_goes_on_with_the_same_curve(
    plan: Callable[..., Plan], train: Callable
) -> None:
    whole, parted = plan("whole", epochs=6, patience=9), plan("parted", epochs=6, patience=9)
    train(whole)
    wait = random.Random(0)
    for _ in range(6):
        trainer = subprocess.Popen(command(parted))
        time.sleep(wait.uniform(6, 14))
        trainer.kill()
        trainer.wait(20)
    assert train(parted)["state"] == "done"
    assert curve(parted.out) == curve(whole.out)


def until(reached: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def at_steps(plan: Plan) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """Start a plan in two processes; return the parent and the children, once steps are made."""
    parent = subprocess.Popen(command(plan), stderr=subprocess.PIPE)
    until(lambda: RunFolder(plan.out).rows() or parent.poll() is not None)
    assert parent.poll() is None
    started = psutil.Process(parent.pid).children()
    trainers = [one for one in started if "spawn_main" in str(one.cmdline())]
    assert len(trainers) == 2
    return parent, trainers


def test_no_process_is_left_when_the_one_that_started_them_is_killed(
    plan: Callable[..., Plan], train: Callable
) -> None:
    one = plan(devices=2, epochs=60, patience=60)
    parent, trainers = at_steps(one)
    try:
        parent.kill()
        parent.wait(20)
        _, alive = psutil.wait_procs(trainers, 20)
        assert alive == []
    finally:
        for left in trainers:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    here = RunFolder(one.out)
    assert here.status()["state"] == "running"
    assert not here.at_work()


@pytest.mark.slow
def test_when_one_of_several_processes_is_killed_the_others_end_and_it_is_said(
    plan: Callable[..., Plan],
) -> None:
    one = plan(devices=2, epochs=60, patience=60)
    parent, trainers = at_steps(one)
    try:
        trainers[1].kill()
        _, said = parent.communicate(timeout=90)
        _, alive = psutil.wait_procs(trainers, 5)
        assert alive == []
    finally:
        for left in (parent, *trainers):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    assert parent.returncode == 1
    assert b"InputError: A process of the training was ended from outside" in said
    told = RunFolder(one.out).status()
    assert told["state"] == "failed"
    assert "run the same command to go on from the last checkpoint" in told["message"]
