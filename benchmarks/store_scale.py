"""What a store costs with 100,000 objects against 10: accept, undo, counts, table, tiles.

Run: ``python benchmarks/store_scale.py [--objects N] [--json]``. The figure that counts is the
ratio of the two stores, taken in turns in one run; milliseconds depend on the machine and drive.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.records import Provenance, SlideObject
from napari_histosam.store import ObjectRaster, ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, HEIGHT = 100_000, 80_000
LEVELS = 9
CLASSES = ("Tumor", "Stroma", "Immune cells", None)
ROUNDS = 200


def nuclei(n: int, seed: int, dense: bool = False) -> list[SlideObject]:
    """Return round objects of 8 to 40 px radius and 33 corners, all over the slide or in a heap."""
    draw = np.random.default_rng(seed)
    low, high = ((20_000, 20_000), (40_000, 38_000)) if dense else ((0, 0), (WIDTH, HEIGHT))
    centres = draw.uniform(low, high, (n, 2))
    shapes = shapely.buffer(shapely.points(centres), draw.uniform(8, 40, n), quad_segs=8)
    return [
        SlideObject(
            shape,
            CLASSES[i % len(CLASSES)],
            provenance=Provenance(source="automatic", model="benchmark", score=i % 100 / 100),
        )
        for i, shape in enumerate(shapes)
    ]


def clock(work: Callable[[], object]) -> float:
    """Return milliseconds."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def compare(small: ObjectStore, large: ObjectStore) -> dict[str, dict[str, float]]:
    """Time the same edits on both stores in turns."""
    fresh = {id(store): iter(nuclei(2 * ROUNDS, seed)) for seed, store in enumerate((small, large))}
    works: dict[str, Callable[[ObjectStore], object]] = {
        "accept": lambda store: store.add([next(fresh[id(store)])], "Accept"),
        "undo": lambda store: store.undo(),
        "redo": lambda store: store.redo(),
        "counts": lambda store: store.counts_by_class(),
        "class counts + label": lambda store: (store.count("Tumor"), store.undo_label),
        "look-up at a point": lambda store: store.at(5000, 5000),
    }
    found = {}
    for name, work in works.items():
        times: tuple[list[float], list[float]] = ([], [])
        busy = [0.0, 0.0]
        for _ in range(ROUNDS):
            for i, store in enumerate((small, large)):
                start = time.process_time()
                times[i].append(clock(lambda store=store, work=work: work(store)))
                busy[i] += time.process_time() - start
        few, many = median(times[0]), median(times[1])
        found[name] = {
            "ms_small": few,
            "ms_large": many,
            "ratio": many / few,
            # Without the wait for the drive, which hides much of the rest.
            "cpu_ratio": busy[1] / busy[0],
            "cpu_ms_large": 1000 * busy[1] / ROUNDS,
        }
    return found


def tiles(store: ObjectStore) -> dict[str, dict[str, float]]:
    """Time 512-px tiles of every level, where there is most to paint."""
    scales = [(2.0**level, 2.0**level) for level in range(LEVELS)]
    shapes = [(int(-(-HEIGHT // s)), int(-(-WIDTH // s))) for s, _ in scales]
    raster = ObjectRaster(store, shapes, scales)
    found = {"first tile (loads the boxes)": {"ms": clock(lambda: raster.read_tile(0, 0, 0))}}
    for level, (scale, _) in enumerate(scales):
        row, col = int(29_000 / scale / 512), int(30_000 / scale / 512)
        times = [clock(lambda at=(level, row, col): raster.read_tile(*at)) for _ in range(7)]
        found[f"x{scale:.0f}"] = {"ms": median(times), "worst": max(times)}
    (key,) = store.add([SlideObject(shapely.box(30_000, 29_000, 30_050, 29_050))])
    touched = raster.touched([store.get(key).geometry.bounds])
    found["first tile after an accept"] = {"ms": clock(lambda: raster.read_tile(*touched[0]))}
    store.undo()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.sqlite" for name in ("small", "large", "dense")]
        report: dict[str, object] = {"objects": options.objects}
        many = nuclei(options.objects, 7)
        with ObjectStore.open(paths[0]) as small, ObjectStore.open(paths[1]) as large:
            small.add(nuclei(10, 7))
            report["bulk_ms"] = {
                "add all": clock(lambda: large.add(many)),
                "undo it": clock(large.undo),
                "redo it": clock(large.redo),
                "read all (export)": clock(lambda: sum(1 for _ in large.iterate())),
                "table page at the end": clock(
                    lambda: large.rows(options.objects - 100, 100, "area")
                ),
            }
            report["edits"] = compare(small, large)
        report["file_mb"] = paths[1].stat().st_size / 1e6
        report["open_ms"] = clock(lambda: ObjectStore.open(paths[1]).close())
        with ObjectStore.open(paths[1]) as large:
            report["tiles_spread"] = tiles(large)
        with ObjectStore.open(paths[2]) as dense:
            dense.add(nuclei(options.objects, 8, dense=True))
            report["tiles_heap"] = tiles(dense)
    if options.json:
        print(json.dumps(report))
        return
    for name, part in report.items():
        if not isinstance(part, dict):
            print(f"{name:34} {part:12.1f}")
            continue
        print(name)
        for key, value in part.items():
            values = value if isinstance(value, dict) else {"ms": value}
            print(f"  {key:32} " + "  ".join(f"{k} {v:9.2f}" for k, v in values.items()))


if __name__ == "__main__":
    main()
