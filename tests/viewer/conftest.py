"""Small slides with round nuclei, their stores, and trainings that are waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_histosam.records import Provenance, SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import open_store_for
from napari_histosam.viewer.learning.course import Course, begin
from napari_histosam.viewer.learning.follow import Follower
from napari_histosam.viewer.learning.launcher import Launcher
from napari_histosam.viewer.learning.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PATIENCE = 120.0


def nucleus(x: float, y: float, r: float = 14.0, class_name: str | None = "Tumor", shift=0.0):
    """A disc; with a shift it was corrected: the model's first answer lay beside it."""
    shape = shapely.Point(x, y).buffer(r)
    first = shapely.Point(x - shift, y).buffer(r)
    return SlideObject(shape, class_name, provenance=Provenance("prompted", first_mask=first))


@dataclass
class Bench:
    """Makes slides and trainings in a folder."""

    root: Path
    launcher: Launcher = field(default_factory=Launcher)
    patience: float = PATIENCE

    def slide(self, name: str, objects: Iterable[SlideObject] = (), seed: int = 0) -> Path:
        """A PNG with a disc for each object, and its store if there are objects."""
        objects = list(objects)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.normal((226, 188, 208), 6, (256, 256, 3))
        rows, columns = np.mgrid[:256, :256] + 0.5
        for one in objects:
            x, y = one.geometry.centroid.coords[0]
            inside = (columns - x) ** 2 + (rows - y) ** 2 < one.geometry.area / np.pi
            pixels[inside] = rng.normal((96, 64, 142), 8, (int(inside.sum()), 3))
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, dpi=(50800, 50800))
        if objects:
            with (
                open_slide(path) as opened,
                open_store_for(path, opened.identity, opened.name) as store,
            ):
                store.add(objects)
        return path

    def field(self, name: str, seed: int) -> Path:
        """A slide with four nuclei of two classes, two of them corrected."""
        rng = np.random.default_rng(seed)
        made = []
        for number in range(4):
            x = 75 + 100 * (number % 2) + rng.uniform(-12, 12)
            y = 75 + 100 * (number // 2) + rng.uniform(-12, 12)
            name_of = "Tumor" if number % 3 else "Stroma"
            made.append(nucleus(x, y, rng.uniform(18, 24), name_of, 4.0 * (number < 2)))
        return self.slide(name, made, seed)

    def order(self, *slides: Path, **more) -> Order:
        wanted = {
            "sources": slides,
            "slides": tuple(path.name for path in slides),
            "objects": 4 * len(slides),
            "model": "histosam-small",
            "method": "decoder",
            "epochs": 2,
            "data": "fields",
            "name": "histosam-small-fields",
            "threads": 1,
        }
        return Order(**{**wanted, **more})

    def begin(self, *slides: Path, **more) -> Course:
        course = begin(self.order(*slides, **more))
        self.launcher.start(course)
        return course

    def until(self, course: Course, done: Callable) -> object:
        """Follow a training until ``done(snapshot)``; return that snapshot."""
        follower = Follower(course, self.launcher)
        end = time.monotonic() + self.patience
        while True:
            shown = follower.look()
            if done(shown):
                return shown
            assert time.monotonic() < end, (shown.state, shown.message, course.log.read_text())
            time.sleep(0.05)

    def close(self) -> None:
        for course in list(self.launcher._mine):
            if self.launcher.alive(course):
                self.launcher._mine[course].kill()
                self.launcher._mine[course].wait()


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path / "bench")
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_nucleus() -> Callable[..., SlideObject]:
    return nucleus
