"""What drawing a box with I-MedSAM costs, by the box's area, on one CPU thread.

The same object is asked for with boxes of growing side, and once over the whole window::

    python benchmarks/implicit_region.py [--rounds N] [--threads N] [--json]

Weights are random, which takes the same time; the encoder is left out, as it does not depend on the
box. Figures are medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

import numpy as np
import torch
from harness import load, table

from napari_histosam.models.i_medsam.field import ImplicitField
from napari_histosam.models.i_medsam.frame import region_of
from napari_histosam.models.i_medsam.points import Region, Sampler
from napari_histosam.models.i_medsam.render import draw
from napari_histosam.models.protocols import ObjectPrompts

SIDE, GRID = 384, 24
SIDES = (24, 48, 96, 192)


def regions() -> dict[str, Region]:
    """Return the drawn part for boxes of each side in the window's middle, and all of it."""
    out = {}
    for side in SIDES:
        low, high = (SIDE - side) / 2, (SIDE + side) / 2
        box = ObjectPrompts(box=np.array([low, low, high, high]))
        out[f"box of {side} px"] = region_of(box, (SIDE, SIDE))
    return {**out, "whole window": Region(0, 0, SIDE, SIDE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    field = ImplicitField().eval()
    maps = torch.randn(32, 4 * GRID, 4 * GRID), torch.randn(256, GRID, GRID)
    parts = regions()
    times: dict[str, list[float]] = {name: [] for name in parts}
    with torch.inference_mode():
        for turn in range(options.rounds + 1):
            for name, part in parts.items():
                start = time.process_time()
                draw(field, Sampler(maps, (SIDE, SIDE), part))
                if turn:  # the first round warms up
                    times[name].append(time.process_time() - start)
    seconds = {name: median(found) for name, found in times.items()}
    whole = parts["whole window"]
    rows = [
        [
            name,
            part.count,
            whole.count / part.count,
            seconds["whole window"] / seconds[name],
            seconds[name] * 1e3,
        ]
        for name, part in parts.items()
    ]
    if options.json:
        keys = ("what", "points", "area_ratio", "time_ratio", "cpu_ms")
        print(json.dumps({"load": load(), "rows": [dict(zip(keys, r, strict=True)) for r in rows]}))
        return
    head = ["drawn", "points", "whole area / its", "whole time / its", "CPU ms"]
    print(table(head, rows))
    print(f"\n{load()} at the end; {options.threads} thread(s).")


if __name__ == "__main__":
    main()
