"""Small slides with discs, their stores, and a builder with few words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_histosam.records import Prompt, Provenance, SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import open_store_for
from napari_histosam.store.places import beside
from napari_histosam.train.dataset.build import build
from napari_histosam.train.dataset.request import Request, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from napari_histosam.train.dataset.report import BuildReport


def disc(x: float, y: float, r: float = 20.0, class_name: str | None = None, **more: Any):
    """A round object; its id comes from its place, so that two builds can be compared."""
    shape = shapely.Point(x, y).buffer(r)
    more.setdefault("id", f"00000000-0000-4000-8000-{int(x):06d}{int(y):06d}")
    return SlideObject(shape, class_name, **more)


def prompted(x: float, y: float, r: float = 20.0, shift: float = 4.0, **more: Any):
    """A disc that was a click's answer and then moved by ``shift`` px."""
    made = Provenance(
        "prompted",
        model="histosam-small",
        weights_hash="abc",
        score=0.75,
        prompts=(
            Prompt(shapely.Point(x, y), "positive"),
            Prompt(shapely.Point(x + r + 5, y), "negative"),
            Prompt(shapely.LineString([(x - 5, y), (x + 5, y)]), "positive"),
            Prompt(shapely.box(x - r, y - r, x + r, y + r), "box"),
            Prompt(shapely.box(x - 4, y - 4, x + 4, y + 4), "mask"),
        ),
        first_mask=shapely.Point(x - shift, y).buffer(r),
    )
    return replace(disc(x, y, r, **more), provenance=made)


@dataclass(frozen=True)
class Lab:
    """Makes slides and stores in a folder.

    Parameters
    ----------
    root : Path
    """

    root: Path

    def slide(self, name: str, seed: int = 0, size: tuple[int, int] = (700, 600), mpp=0.5) -> Path:
        """A PNG with noise that depends on the seed; ``mpp`` None leaves the scale unknown."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(120, 250, (size[1] // 4 + 1, size[0] // 4 + 1, 3), np.uint8)
        pixels = pixels.repeat(4, 0).repeat(4, 1)[: size[1], : size[0]]
        scale = {} if mpp is None else {"dpi": (25400 / mpp, 25400 / mpp)}
        Image.fromarray(pixels).save(path, **scale)
        return path

    def store(self, slide: Path, objects: Iterable[SlideObject]) -> Path:
        """Put objects into the store beside a slide, in the place of those that were there."""
        with (
            open_slide(slide) as opened,
            open_store_for(slide, opened.identity, opened.name) as store,
        ):
            store.replace(store.ids(), list(objects))
        return beside(slide)

    def annotated(self, name: str, seed: int, objects: Iterable[SlideObject], **more: Any) -> Path:
        """A slide with a store beside it; returns the slide."""
        slide = self.slide(name, seed, **more)
        self.store(slide, objects)
        return slide

    def build(self, *stores: Path, out: str = "set", **more: Any) -> BuildReport:
        """Build; what is not of a request is a setting. Windows are 256 px at 0.5 µm/px."""
        mine = {key: more.pop(key) for key in ("annotated", "look_in", "patients") if key in more}
        run = {key: more.pop(key) for key in ("report", "cancel") if key in more}
        settings = Settings(**{"size": 256, "mpp": 0.5, **more})
        return build(Request(self.root / out, stores, settings=settings, **mine), **run)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


@pytest.fixture(scope="session")
def make_disc() -> Callable[..., SlideObject]:
    return disc


@pytest.fixture(scope="session")
def make_prompted() -> Callable[..., SlideObject]:
    return prompted


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def content() -> Callable[[Path], dict[str, bytes]]:
    return snapshot
