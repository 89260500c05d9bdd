"""A picture full of discs, and a model that finds them without prompts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from napari_histosam.models.automatic import Detections
from napari_histosam.models.cards import ModelCard
from napari_histosam.slide import open_array


class Finder:
    """Finds what is dark; each connected thing is one object."""

    def __init__(self, window_px: int = 256, mpp: float | None = None) -> None:
        self.card = ModelCard(
            "finder",
            "finder",
            "Finds",
            "BSD-3-Clause",
            (),
            window_px,
            mpp,
            finds="objects",
            classes=("Nucleus", "Large"),
        )
        self.weights_hash = "hash of finder"
        self.device = "cpu"
        self.seen: list[tuple[int, ...]] = []
        self.hook = lambda number: None

    def find(self, image: np.ndarray) -> Detections:
        self.hook(len(self.seen))
        self.seen.append(image.shape)
        dark = (image[..., 0] < 128).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(dark)
        places = stats[1:count]
        masks = [
            labels[y : y + h, x : x + w] == number
            for number, (x, y, w, h, _) in enumerate(places, 1)
        ]
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in places], float).reshape(-1, 4)
        large = places[:, 4] > 900
        return Detections(
            boxes,
            np.linspace(0.9, 0.4, count - 1),
            large.astype(np.int64),
            masks,
            places[:, :2].astype(np.int64),
        )


def discs(width: int, height: int, seed: int = 0, pitch: int = 44) -> tuple[np.ndarray, int]:
    """A light picture with one dark disc in each cell of a grid, and how many there are."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 235, np.uint8)
    count = 0
    for y in range(0, height - pitch, pitch):
        for x in range(0, width - pitch, pitch):
            radius = int(rng.integers(4, 19))
            at = rng.integers(radius + 1, pitch - radius - 1, 2)
            cv2.circle(image, (x + int(at[0]), y + int(at[1])), radius, (60, 40, 110), -1)
            count += 1
    return image, count


@pytest.fixture
def finder() -> Finder:
    return Finder()


@pytest.fixture
def make_finder():
    return Finder


@pytest.fixture(scope="session")
def crowd() -> tuple[np.ndarray, int]:
    return discs(1100, 900)


@pytest.fixture
def crowded(crowd):
    with open_array([crowd[0]], None, "crowd") as slide:
        yield slide


@pytest.fixture
def paint_discs():
    return discs
