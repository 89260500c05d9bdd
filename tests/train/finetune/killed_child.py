"""Runs a plan in a process of its own, which may kill itself after some steps."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.trained import base_hash
    from napari_histosam.train.finetune import launch, loop, validation
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import divide

    task = json.loads(sys.argv[1])
    validation._OBJECTS = 1
    loop._SAVE_EVERY = 0.0  # a checkpoint after every step
    step = loop.Loop._learn

    def learn(self: loop.Loop) -> None:
        if self.step == task["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self)

    loop.Loop._learn = learn  # type: ignore[method-assign]
    plan = Plan(Path(task["data"]), out=Path(task["out"]), **task["plan"])
    division = divide(plan)
    launch.run(plan, division, base_hash(ModelRegistry(), plan.model), list(division.notes))


if __name__ == "__main__":
    main()
