"""What automatic runs cost: time against area, and the window's stalls while objects stream in.

Cost: ``classical`` over squares of growing area of the mosaic slide, without a window. Stream: in
the window over that slide, so many ready-made outlines are put into the store by a run while the
view pans, in turns with panning alone::

    python benchmarks/automatic_runs.py [--objects N] [--sides PX …] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import in_child, load, table
from heart import WINDOW, Heart, pan
from make_pyramid import make_pyramid

STEP_S = 0.15
PER_TILE = 600
PAN_PX = 120
ZOOM = 4.0  # level-0 px per screen px
MIB = 2**20


def cost(slide: str, sides: list[int]) -> list[dict[str, Any]]:
    """Return seconds, tiles, objects and memory growth for squares of these sides."""
    import psutil
    import shapely

    from napari_histosam import open_slide
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session.automate import AutomateRequest, automate, plan_tiles
    from napari_histosam.store import ObjectStore

    model = ModelRegistry().load("classical")
    rows = []
    with open_slide(slide) as opened, tempfile.TemporaryDirectory() as folder:
        for number, side in enumerate([sides[0], *sides]):  # the first one warms up
            region = shapely.box(2000, 2000, 2000 + side, 2000 + side)
            before = psutil.Process().memory_info().rss
            with ObjectStore.open(Path(folder) / f"{number}.sqlite") as store:
                request = AutomateRequest(plan_tiles(opened, model.card, region))
                outcome = automate(opened, store, model, request)
            grown = (psutil.Process().memory_info().rss - before) / MIB
            rows.append(
                {
                    "side_px": side,
                    "tiles": outcome.tiles,
                    "objects": outcome.objects,
                    "seconds": outcome.seconds,
                    "grown_mib": grown,
                }
            )
    return rows[1:]


class Stamp:
    """A model that answers every tile with the same small outlines, at once."""

    def __init__(self, card: Any, per_tile: int) -> None:
        from napari_histosam.models.automatic import Detections

        self.card, self.weights_hash, self.device = card, "stamp", "cpu"
        across = int(np.ceil(np.sqrt(per_tile)))
        pitch = card.window_px / across
        y, x = np.mgrid[:15, :15] - 7
        disc = x * x + y * y <= 49
        at = [(i % across, i // across) for i in range(per_tile)]
        corners = (np.array(at) * pitch + pitch / 2 - 7).astype(np.int64)
        boxes = np.hstack([corners, corners + 15]).astype(float)
        scores = np.linspace(1, 0.5, per_tile)
        self._found = Detections(
            boxes, scores, np.zeros(per_tile, np.int64), [disc] * per_tile, corners
        )

    def find(self, image: Any) -> Any:
        """Return the stamp."""
        return self._found


def stream(slide: str, objects: int, where: bool) -> dict[str, Any]:
    """Pan alone, then while a run streams objects in, then with all of them there."""
    from napari_histosam.viewer import launch
    from napari_histosam.viewer.automation import Where, Wish

    viewer, dock = launch.open_with_dock(Path(slide))
    viewer.window.resize(*WINDOW)
    heart = Heart(where)
    session = dock.workbench.controller.session
    heart.live(300, until=lambda: session.settled)
    sx, _ = session.slide.mpp
    viewer.scene.camera.zoom = 1 / (ZOOM * sx)
    viewer.scene.camera.center = (0.0, 12000 * sx, 12000 * sx)
    heart.live(2.0)
    ways = [PAN_PX, -PAN_PX]

    def pans(until: Any, least: int) -> list[float]:
        stalls: list[float] = []
        while len(stalls) < least or not until():
            way = ways[len(stalls) // 20 % 2]
            stalls.append(heart.live(STEP_S, lambda way=way: pan(viewer, way, 0)))
        return stalls

    pans(lambda: True, 20)
    quiet = pans(lambda: True, 40)
    of = dock.automate.automation
    card = dock.workbench.registry.get("classical")
    of._loaded = ("classical", Stamp(card, PER_TILE))
    before = heart.rss()
    heart.peak = before
    start = time.perf_counter()
    of.start(Wish("classical", Where.WHOLE))
    busy = pans(lambda: session.store.count() >= objects or of.running is None, 20)
    seconds, count = time.perf_counter() - start, session.store.count()
    of.cancel()
    heart.live(60, until=lambda: of.running is None)
    heart.live(2.0)
    after = pans(lambda: True, 40)
    found = {
        "objects": count,
        "seconds": seconds,
        "grown_mib": (heart.peak - before) / MIB,
        "stacks": heart.stacks.most_common(12),
    }
    for name, stalls in (("alone", quiet), ("streaming", busy), ("afterwards", after)):
        found[name] = [median(stalls), float(np.percentile(stalls, 95)), max(stalls)]
    dock.end()
    viewer.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--sides", type=int, nargs="+", default=[1500, 3000, 4500])
    parser.add_argument("--where", action="store_true", help="print what the stalls were spent on")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(stream(**options.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "mosaic.tif"
        make_pyramid(slide)
        costs = cost(str(slide), options.sides)
        task = {"slide": str(slide), "objects": options.objects, "where": options.where}
        streamed = in_child(__file__, task, Path(folder) / "home")
    if options.json:
        print(json.dumps({"load": load(), "cost": costs, "stream": streamed}))
        return
    first = costs[0]
    rows = [
        [
            f"{one['side_px']:,}",
            (one["side_px"] / first["side_px"]) ** 2,
            one["tiles"],
            one["objects"],
            one["seconds"],
            one["seconds"] / first["seconds"],
            1e3 * one["seconds"] / one["tiles"],
            one["grown_mib"],
        ]
        for one in costs
    ]
    head = ["side, px", "area / first", "tiles", "objects", "s", "time / first"]
    print(table([*head, "ms per tile", "memory growth, MiB"], rows))
    print()
    rows = [[name, *streamed[name]] for name in ("alone", "streaming", "afterwards")]
    print(table(["panning", "stall: median, ms", "95 %", "longest"], rows))
    rate = streamed["objects"] / streamed["seconds"]
    print(
        f"\n{streamed['objects']:,} objects in {streamed['seconds']:.0f} s ({rate:.0f} per s), "
        f"memory growth {streamed['grown_mib']:.0f} MiB; {load()} at the end."
    )
    for stack, number in streamed["stacks"]:
        print(f"{number:4} {stack}")


if __name__ == "__main__":
    main()
