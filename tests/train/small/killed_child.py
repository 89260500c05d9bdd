"""A training that kills itself at a given moment; run by test_loop.py, no test itself.

Arguments: the folder of the run, a file with the pictures, the recipe, the moment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from napari_histosam.train.small import loop
from napari_histosam.train.small.pool import measured


def die(*_args: object, **_more: object) -> NoReturn:
    # Windows knows no SIGKILL; there this signal ends a process as abruptly.
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    raise AssertionError("still alive")


def in_a_step(training: loop.Training) -> None:
    """After the first checkpoint, with a step half done: weights are changed, nothing is noted."""
    real = training._learn

    def learn(batch: Any) -> dict[str, float]:
        if training.step == 3:
            loop._follow = die
        return real(batch)

    training._learn = learn


def in_a_checkpoint(_training: loop.Training) -> None:
    """While the second checkpoint is written: half of it is on the disk."""
    real = torch.save

    def save(state: dict[str, Any], out: Any) -> None:
        real(state, out)
        if state["step"] == 4:
            out.truncate(out.tell() // 2)
            out.flush()
            die()

    torch.save = save


def before_the_log(training: loop.Training) -> None:
    """Between a checkpoint and its line in the log."""
    real = loop.csv.DictWriter

    def writer(*args: Any, **more: Any) -> Any:
        return die() if training.step == 4 else real(*args, **more)

    loop.csv.DictWriter = writer


def in_the_judge(_training: loop.Training) -> None:
    """When the masks are learned and the judge is not."""
    loop.fit_judge = die


def main(folder: str, pictures: str, recipe: str, moment: str) -> None:
    torch.set_num_threads(1)  # as in the process that goes on, for sums depend on it
    stored = np.load(pictures)
    names = sorted(name.removesuffix(".image") for name in stored if name.endswith(".image"))
    made = [measured(n, stored[f"{n}.image"], stored[f"{n}.labels"]) for n in names]
    how = loop.Recipe(**json.loads(recipe))
    training = loop.Training(Path(folder), how, made, made, workers=0)
    moments = {
        "step": in_a_step,
        "checkpoint": in_a_checkpoint,
        "log": before_the_log,
        "judge": in_the_judge,
    }
    moments[moment](training)
    training.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
