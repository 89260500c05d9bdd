"""How long a click takes to become a mask, cold and cached, and what the time goes into.

Through `Session` without a window, on nuclei of the shipped sample::

    python benchmarks/click_latency.py [--clicks N] [--vit] [--json]

*Cold*: slide just opened, its window never encoded. *Cached*: the same click once more.
``--vit`` adds SAM ViT-B on random weights; its masks are empty, so there is nothing to trace.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import load, random_vit, table

from napari_histosam import Session, open_slide
from napari_histosam.home import shipped
from napari_histosam.models import EmbeddingCache, ModelRegistry
from napari_histosam.session.offered import Offered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE = shipped("sample_data") / "CMU-1-Small-Region.svs"
PARTS = ("read", "encode", "keep", "decode", "clean + trace", "other")


class Clock:
    """Adds up the time that is spent in functions."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def around(self, part: str, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``func``, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return func(*args, **kwargs)
            finally:
                self.spent[part] += 1e3 * (time.perf_counter() - start)

        return timed

    def click(self, session: Session, at: tuple[float, float]) -> dict[str, float]:
        """Click, and return the milliseconds by part."""
        self.spent.clear()
        start = time.perf_counter()
        session.add_point(*at)
        total = 1e3 * (time.perf_counter() - start)
        found = {part: self.spent[part] for part in PARTS}
        return {**found, "other": total - sum(found.values()), "total": total}


@contextmanager
def timed_session(clock: Clock, registry: ModelRegistry, model: str) -> Iterator[Session]:
    """Open the sample anew, with an empty cache as the window has it: in memory and on disk."""
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder))
        cache.put = clock.around("keep", cache.put)  # type: ignore[method-assign]
        with open_slide(SAMPLE) as slide:
            slide.read = clock.around("read", slide.read)  # type: ignore[method-assign]
            with Session(slide, model=model, registry=registry, cache=cache) as session:
                yield session


class TimedRegistry(ModelRegistry):
    """A registry whose models are loaded once and timed."""

    def __init__(self, home: Path, clock: Clock) -> None:
        super().__init__(home)
        self._clock, self._loaded = clock, dict[str, Any]()

    def load(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return the model; `encode` and `decode` are timed."""
        if name not in self._loaded:
            model: Any = super().load(name, *args, **kwargs)
            model.encode = self._clock.around("encode", model.encode)
            model.decode = self._clock.around("decode", model.decode)
            self._loaded[name] = model
        return self._loaded[name]


def nuclei(count: int) -> list[tuple[float, float]]:
    """Return level-0 px of dark spots of the size of nuclei, spread over the sample."""
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2hed
    from skimage.feature import peak_local_max

    with open_slide(SAMPLE) as slide:
        image = slide.read_region(0, 0, 0, slide.width, slide.height)
    stain = gaussian_filter(rgb2hed(image)[..., 0], 5)
    spots = peak_local_max(stain, min_distance=12, exclude_border=80, num_peaks=40 * count)
    chosen = np.random.default_rng(0).choice(len(spots), count, replace=False)
    return [(float(x) + 0.5, float(y) + 0.5) for y, x in spots[chosen]]


def measure(
    registry: ModelRegistry, clock: Clock, model: str, spots: list[tuple[float, float]]
) -> dict[str, list[dict[str, float]]]:
    """Click each spot cold and then cached."""
    found: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    for at in spots:
        with timed_session(clock, registry, model) as session:
            found["cold"].append(clock.click(session, at))
            session.reject()
            found["cached"].append(clock.click(session, at))
    return found


def summary(clicks: list[dict[str, float]]) -> dict[str, float]:
    """Return p50 and p95 of the total, and each part's share of the time in all."""
    totals = [click["total"] for click in clicks]
    whole = sum(totals)
    shares = {part: sum(click[part] for click in clicks) / whole for part in PARTS}
    middle, late = np.percentile(totals, (50, 95))
    return {"p50": float(middle), "p95": float(late), **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=30)
    parser.add_argument("--vit", action="store_true", help="SAM ViT-B as well")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clock = Clock()
    Offered.of = clock.around("clean + trace", Offered.of)  # type: ignore[method-assign]
    Offered.outline = clock.around("clean + trace", Offered.outline)  # type: ignore[method-assign]
    spots = nuclei(options.clicks)
    report: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        registry = TimedRegistry(Path(folder), clock)
        jobs = [("histosam-small", spots), ("classical", spots)]
        if options.vit:
            jobs.append((random_vit(registry, Path(folder)), spots[:3]))
        for name, at in jobs:
            measure(registry, clock, name, at[:1])  # imports and first calls
            for kind, clicks in measure(registry, clock, name, at).items():
                report[f"{name}, {kind}"] = {"clicks": len(clicks), **summary(clicks)}
    if options.json:
        print(json.dumps({"load": load(), "clicks": report}))
        return
    rows = [
        [name, row["clicks"], row["p50"], row["p95"], *(f"{row[part]:.0%}" for part in PARTS)]
        for name, row in report.items()
    ]
    print(table(["model", "clicks", "p50, ms", "p95, ms", *PARTS], rows))
    print(f"\n{load()} at the end.")


if __name__ == "__main__":
    main()
