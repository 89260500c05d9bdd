"""Runs a plan in a process of its own, which may kill itself at a given moment.

``kill_at`` N: before step N. ``kill_write`` N: with half of ``last.pt`` written, the N-th time.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    import torch

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.trained import base_hash
    from napari_histosam.train.finetune import launch, loop, validation
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import divide

    task = json.loads(sys.argv[1])
    validation._OBJECTS = 1
    loop._SAVE_EVERY = 0.0  # a checkpoint after every step
    step, save, left = loop.Loop._learn, torch.save, task.get("kill_write", 0)

    def learn(self: loop.Loop) -> None:
        if self.step == task.get("kill_at"):
            die()
        step(self)

    def half(state: Any, out: io.BufferedWriter) -> None:
        nonlocal left
        left -= 1
        if left:
            save(state, out)
            return
        whole = io.BytesIO()
        save(state, whole)
        out.write(whole.getvalue()[: whole.tell() // 2])
        out.flush()
        die()

    loop.Loop._learn = learn  # type: ignore[method-assign]
    torch.save = half  # type: ignore[assignment]
    plan = Plan(Path(task["data"]), out=Path(task["out"]), **task["plan"])
    division = divide(plan)
    launch.run(plan, division, base_hash(ModelRegistry(), plan.model), list(division.notes))


if __name__ == "__main__":
    main()
