"""A process that maps regions until it is killed; run by test_region_runs.py, no test itself."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from napari_histosam.session.regions import RegionRequest, map_regions, plan_regions
from napari_histosam.slide import open_array
from region_tints import Tinter, landscape


def main(folder: str, slow: float) -> None:
    model = Tinter()
    model.hook = lambda _: time.sleep(slow)
    with open_array([landscape(1500, 1250)], (1.0, 1.0), "land") as slide:
        request = RegionRequest(plan_regions(slide, model.card))
        map_regions(slide, model, request, Path(folder), announce=lambda _: None)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
