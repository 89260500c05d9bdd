"""Pans and zooms a 100,000 x 80,000 slide in the real window: memory and event-loop stalls.

The same moves over a numpy image of the canvas's size show what the renderer itself needs for a
frame, and over a numpy pyramid in memory what napari needs besides; the rest is ours. Each case
runs in processes of its own, taken in turns::

    python benchmarks/pan_big_slide.py [--rounds N] [--flags 0|1|01] [--where] [--json]

A stall is the longest time between two beats of a 2 ms timer after one move of the camera. Where
napari reloads a layer, it spans two frames, as Qt draws the second before it turns to timers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness import in_child, load, middle, table
from heart import WINDOW, Heart, pan, show, zoom
from make_pyramid import make_pyramid

KINDS = ("frame", "pyramid", "slide")
NAMES = {
    "frame": "numpy image of the canvas's size",
    "pyramid": "numpy pyramid in memory",
    "slide": "the slide in HistoSAM",
}
ZOOMS, PANS = 6, 40
STEP_S = 0.15
PAN_PX = (220, 90)
MIB = 2**20


def run(kind: str, slide: str, where: bool = False) -> dict[str, Any]:
    """Make the moves in this process; return stalls in ms and memory growth in MiB."""
    from napari.settings import get_settings

    from napari_histosam.viewer import launch

    viewer, dock = launch.open_with_dock()
    viewer.window.resize(*WINDOW)
    heart = Heart(where)
    heart.live(1.5)
    before = heart.rss()
    heart.peak = before
    start = time.perf_counter()
    show(viewer, kind, dock, slide)
    opened = time.perf_counter() - start
    first = heart.live(2.0)
    viewer.scene.camera.center = (0.0, *(0.3 * side for side in viewer.scene.camera.center[1:]))
    stalls: dict[str, list[float]] = {}
    for phase, steps, move in (
        ("zoom in", ZOOMS, lambda: zoom(viewer, 2)),
        ("pan", PANS, lambda: pan(viewer, *PAN_PX)),
        ("pan back", PANS, lambda: pan(viewer, *(-px for px in PAN_PX))),
        ("zoom out", ZOOMS, lambda: zoom(viewer, 0.5)),
    ):
        stalls[phase] = [heart.live(STEP_S, move) for _ in range(steps)]
    heart.live(1.0)
    pans = stalls["pan"] + stalls["pan back"]
    zooms = stalls["zoom in"] + stalls["zoom out"]
    found = {
        "async": bool(get_settings().experimental.async_),
        "open_s": opened,
        "open_stall_ms": first,
        "pan_median_ms": median(pans),
        "pan_longest_ms": max(pans),
        "zoom_median_ms": median(zooms),
        "zoom_longest_ms": max(zooms),
        "rss_growth_mib": (heart.peak - before) / MIB,
        "stacks": heart.stacks.most_common(12),
    }
    dock.end()
    viewer.close()
    return found


def measure(rounds: int, where: bool, flags: str) -> dict[str, dict[str, Any]]:
    """Run all cases in turns, with NAPARI_ASYNC as ``flags`` say; return medians."""
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "mosaic.tif"
        make_pyramid(slide)
        for _ in range(rounds):
            for flag in flags:
                for kind in KINDS:
                    task = {"kind": kind, "slide": str(slide), "where": where}
                    home = Path(folder) / "home"
                    found = in_child(__file__, task, home, NAPARI_ASYNC=flag)
                    runs.setdefault(f"{kind} {flag}", []).append(found)
    return {
        key: {**middle(found), "crashes": sum(one["crashes"] for one in found)}
        for key, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--where", action="store_true", help="print what the stalls were spent on")
    parser.add_argument("--flags", choices=["0", "1", "01"], default="0", help="NAPARI_ASYNC")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run(**options.child)))
        return
    found = measure(options.rounds, options.where, options.flags)
    if options.json:
        print(json.dumps({"load": load(), "rounds": options.rounds, "cases": found}))
        return
    rows = []
    for key, case in found.items():
        kind, flag = key.split()
        bases = [found[f"{base} {flag}"] for base in ("frame", "pyramid")]
        row: list[object] = [NAMES[kind], flag]
        for move in ("pan", "zoom"):
            longest = case[f"{move}_longest_ms"]
            row.append(f"{case[f'{move}_median_ms']:.0f} / {longest:.0f}")
            row.append(" / ".join(f"{longest - base[f'{move}_longest_ms']:+.0f}" for base in bases))
        rows.append([*row, case["open_s"], case["rss_growth_mib"]])
    head = ["shown", "NAPARI_ASYNC"]
    for move in ("pan", "zoom"):
        head += [f"{move}: median / longest stall, ms", "beyond the image / the pyramid"]
    head += ["opening, s", "memory growth, MiB"]
    print(table(head, rows))
    print(f"\nMedians of {options.rounds} rounds; {load()} at the end.")
    crashes = sum(case["crashes"] for case in found.values())
    if crashes:
        print(f"{crashes} processes crashed and were run again.")
    for key, case in found.items():
        for stack, count in case["stacks"]:
            print(f"{key}: {count:4} {stack}")


if __name__ == "__main__":
    main()
