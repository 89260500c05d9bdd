"""Event-loop stalls while a model answers clicks on its worker thread, against no clicks at all.

The window pans over the 100,000 x 80,000 slide, in turns with clicks and without. SAM ViT-B runs
on random weights::

    python benchmarks/stall_while_encoding.py [--rounds N] [--threads N] [--nice N] [--json]

``--threads`` and ``--nice`` try other settings of the model's thread than the package's own: the
number of torch's threads, and how far the worker steps back for others (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import in_child, load, middle, random_vit, table
from heart import WINDOW, Heart, pan
from make_pyramid import make_pyramid

STEPS = 40
STEP_S = 0.15
PAN_PX = 220
ZOOM = 2.0  # level-0 px per screen px
# Where each phase begins, in screen px below the one before: on tiles that were not seen yet.
DOWN_PX = 900
PATIENCE_S = 300.0


def run(
    model: str, slide: str, rounds: int, threads: int | None, nice: int | None, where: bool
) -> dict[str, Any]:
    """Pan with and without clicks in this process; return stalls in ms."""
    from napari_histosam.viewer import launch

    viewer, dock = launch.open_with_dock(Path(slide))
    viewer.window.resize(*WINDOW)
    heart = Heart(where)
    session = dock.workbench.controller.session
    registry = dock.workbench.registry
    load_model = registry.load
    encodes: list[float] = []

    def load_aside(*args: Any, **kwargs: Any) -> Any:
        """Load on the worker's thread, set up as asked; torch's threads inherit its niceness."""
        if nice is not None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        loaded = load_model(*args, **kwargs)
        encode = loaded.encode

        def timed(images: Any) -> Any:
            start = time.perf_counter()
            try:
                return encode(images)
            finally:
                encodes.append(1e3 * (time.perf_counter() - start))

        loaded.encode = timed
        return loaded

    registry.load = load_aside  # type: ignore[method-assign]
    heart.live(PATIENCE_S, until=lambda: session.settled)
    dock.workbench.set_model(model)
    heart.live(PATIENCE_S, until=lambda: session.settled and session.card.name == model)
    sx, _ = session.slide.mpp
    camera = viewer.scene.camera
    camera.zoom = 1 / (ZOOM * sx)
    corner = [0.1 * side for side in camera.center[1:]]
    heart.live(2.0)

    answers = []
    session.preview_changed.connect(lambda shown: answers.append(shown) if shown else None)

    def click() -> None:
        if session.settled:
            session.reject()
            _, y, x = camera.center
            session.add_point(x / sx, y / sx)

    def phase(number: int, clicking: bool) -> dict[str, float]:
        encodes.clear()
        answers.clear()
        camera.center = (0.0, corner[0] + number * DOWN_PX / camera.zoom, corner[1])
        heart.live(1.0)
        stalls, busy = [], 0
        for step in range(STEPS):
            if clicking and step % 2 == 0:
                stalls.append(heart.live(STEP_S, lambda: (click(), pan(viewer, PAN_PX, 0))))
            else:
                stalls.append(heart.live(STEP_S, lambda: pan(viewer, PAN_PX, 0)))
            busy += not session.settled
        if clicking:
            heart.live(PATIENCE_S, until=lambda: session.settled)
            session.reject()
            heart.live(PATIENCE_S, until=lambda: session.settled)
        return {
            "median": median(stalls),
            "p95": float(np.percentile(stalls, 95)),
            "longest": max(stalls),
            "busy": busy / STEPS,
            "answers": len(answers),
            "encode_ms": median(encodes) if encodes else 0.0,
        }

    phase(0, False)  # first frames at this zoom
    quiet, busy = [], []
    for i in range(rounds):
        for clicking in (False, True) if i % 2 else (True, False):
            (busy if clicking else quiet).append(phase(1 + len(quiet) + len(busy), clicking))
    found = {"quiet": middle(quiet), "busy": middle(busy), "stacks": heart.stacks.most_common(12)}
    if model != "classical":
        import torch

        found["threads"] = torch.get_num_threads()
    dock.end()
    viewer.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--models", nargs="+", default=["histosam-small", "classical", "vit-b"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--nice", type=int)
    parser.add_argument("--where", action="store_true", help="print what the stalls were spent on")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run(**options.child)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        slide, home = Path(folder) / "mosaic.tif", Path(folder) / "home"
        make_pyramid(slide)
        for model in options.models:
            name = model
            if model == "vit-b":
                from napari_histosam.models import ModelRegistry

                home.mkdir(exist_ok=True)
                name = random_vit(ModelRegistry(home), Path(folder))
            task = {"model": name, "slide": str(slide), "rounds": options.rounds}
            task |= {"threads": options.threads, "nice": options.nice, "where": options.where}
            found[model] = in_child(__file__, task, home)
    if options.json:
        print(json.dumps({"load": load(), "rounds": options.rounds, "models": found}))
        return
    rows = []
    for model, case in found.items():
        quiet, busy = case["quiet"], case["busy"]
        rows.append(
            [
                model,
                *(f"{case[k]['median']:.0f} / {case[k]['longest']:.0f}" for k in ("quiet", "busy")),
                " / ".join(f"{busy[k] / quiet[k]:.1f}" for k in ("median", "longest")),
                f"{busy['longest'] - quiet['longest']:+.0f}",
                f"{busy['busy']:.0%}",
                busy["answers"],
                busy["encode_ms"],
                case.get("threads", "-"),
            ]
        )
    head = ["model", "stall without clicks: median / longest, ms", "with clicks", "ratio"]
    head += ["longest, difference", "model at work", "answers", "encode, ms", "torch threads"]
    print(table(head, rows))
    print(f"\nMedians of {options.rounds} rounds of {STEPS} moves; {load()} at the end.")
    crashes = sum(case["crashes"] for case in found.values())
    if crashes:
        print(f"{crashes} processes crashed and were run again.")
    for model, case in found.items():
        for stack, count in case["stacks"]:
            print(f"{model}: {count:4} {stack}")


if __name__ == "__main__":
    main()
