"""What runs over regions cost: time against tissue, and memory against the size of the slide.

A model that tells tissue by its colour maps slides of which a square is tissue and the rest glass;
each row is a process of its own. With ``--sam-lung`` its place is taken by SAM-Lung with random
weights, whose answers mean nothing but cost what they cost::

    python benchmarks/region_runs.py [--sides PX …] [--slides PX …] [--sam-lung] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import in_child, load, table

MIB = 2**20


class Colour:
    """How far a px is from glass, smoothed; a stand-in that costs little."""

    def __init__(self, card: Any) -> None:
        self.card = replace(card, mpp=1.0)
        self.weights_hash, self.device = "colour", "cpu"

    def probabilities(self, image: Any) -> Any:
        """Return one map."""
        import cv2

        green = cv2.blur(image[..., 1], (31, 31)).astype(np.float32)
        return (1 / (1 + np.exp((green - 190) / 8)))[None].astype(np.float32)


def random_lung(card: Any) -> Any:
    """Return a SAM-Lung with random weights."""
    import torch

    from napari_histosam.models.sam_lung.model import SamLungModel
    from napari_histosam.models.sam_lung.network import build

    torch.manual_seed(0)
    return SamLungModel(card, build(2, cbam=True).eval(), "random")


def make_slide(path: Path, side: int, tissue: int) -> None:
    """Write a TIFF pyramid of glass with a square of the sample slide's tissue, over and over."""
    import tifffile

    from napari_histosam import open_slide
    from napari_histosam.home import sample_slide

    with open_slide(sample_slide()) as slide:
        patch = slide.read_level(0, 700, 700, 1024, 1024)
    tile = 512
    levels = [side // 2**n for n in range(8) if side // 2**n >= 512]

    def tiles(down: int) -> Any:
        shown = patch[::down, ::down]
        for y in range(0, side // down, tile):
            for x in range(0, side // down, tile):
                out = np.full((tile, tile, 3), 243, np.uint8)
                high, wide = (min(max(tissue // down - at, 0), tile) for at in (y, x))
                if high and wide:
                    rows = (y + np.arange(high)) % shown.shape[0]
                    columns = (x + np.arange(wide)) % shown.shape[1]
                    out[:high, :wide] = shown[rows][:, columns]
                yield out

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, size in enumerate(levels):
            writer.write(
                tiles(2**number),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb",
                compression="deflate",
                subfiletype=int(number > 0),
                resolution=(1e4 / 2**number, 1e4 / 2**number),  # 1 µm per px
                resolutionunit="CENTIMETER",
            )


def measure(slide: str, folder: str, lung: bool) -> dict[str, Any]:
    """Map a slide, make its areas, and return figures of both."""
    import psutil
    import shapely

    from napari_histosam import open_slide
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session.regions import (
        AreaSettings,
        RegionMap,
        RegionRequest,
        areas,
        map_regions,
        plan_regions,
    )

    card = ModelRegistry().get("sam-lung")
    model = random_lung(card) if lung else Colour(card)
    process = psutil.Process()
    peak = [0]
    target = Path(folder) / "map"
    disk = [0]

    def look(_progress: Any = None) -> None:
        peak[0] = max(peak[0], process.memory_info().rss)
        disk[0] = max(disk[0], sum(p.stat().st_size for p in target.glob(".run/*.tile")))

    with open_slide(slide) as opened:
        opened.set_mpp(1.0)
        # Once over a corner, so that libraries are loaded and the overview has been made.
        corner = RegionRequest(plan_regions(opened, model.card, shapely.box(0, 0, 200, 200)))
        map_regions(opened, model, corner, Path(folder) / "warm")
        areas(RegionMap(Path(folder) / "warm"))
        request = RegionRequest(plan_regions(opened, model.card))
        look()
        before, start = peak[0], time.perf_counter()
        outcome = map_regions(opened, model, request, target, report=look)
        seconds = time.perf_counter() - start
    grown, start = peak[0] - before, time.perf_counter()
    made = areas(RegionMap(target), AreaSettings(), step=look)
    return {
        "tiles": outcome.tiles,
        "map_s": seconds,
        "areas_s": time.perf_counter() - start,
        "areas": len(made.areas),
        "run_mib": grown / MIB,
        "all_mib": (peak[0] - before) / MIB,
        "kept_mib": disk[0] / MIB,
        "map_mib": sum(p.stat().st_size for p in target.rglob("*") if p.is_file()) / MIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192, 12288])
    parser.add_argument("--slides", type=int, nargs="+", default=[8192, 16384, 32768])
    parser.add_argument("--sam-lung", action="store_true", help="random weights; slow on a CPU")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(**options.child)))
        return
    most = max(options.sides)
    cases = [(most, side) for side in options.sides]
    cases += [(side, min(options.sides)) for side in options.slides]
    rows = []
    for side, tissue in cases:
        with tempfile.TemporaryDirectory() as folder:
            slide = Path(folder) / "slide.tif"
            make_slide(slide, side, tissue)
            task = {"slide": str(slide), "folder": folder, "lung": options.sam_lung}
            found = in_child(__file__, task, Path(folder) / "home")
        rows.append({"slide_px": side, "tissue_px": tissue, **found})
    if options.json:
        print(json.dumps({"load": load(), "rows": rows}))
        return
    head = ["slide, px", "tissue, mm²", "tiles", "map, s", "ms per tile", "areas, s", "areas"]
    head += ["memory: run, MiB", "and areas", "kept meanwhile, MiB", "map, MiB"]
    print(
        table(
            head,
            [
                [
                    f"{one['slide_px']:,}",
                    (one["tissue_px"] / 1000) ** 2,
                    one["tiles"],
                    one["map_s"],
                    1e3 * one["map_s"] / max(one["tiles"], 1),
                    one["areas_s"],
                    one["areas"],
                    one["run_mib"],
                    one["all_mib"],
                    one["kept_mib"],
                    one["map_mib"],
                ]
                for one in rows
            ],
        )
    )
    print(f"\n{load()} at the end")


if __name__ == "__main__":
    main()
