"""Objects, slides and files that the exchange tests share."""

from pathlib import Path

import pytest
import shapely
from shapely import MultiPolygon, Point, box

from napari_histosam.geometry.window import Window
from napari_histosam.records import Prompt, Provenance, SlideObject

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def slides():
    folder = SHARED / "data" / "slides"
    if not folder.is_dir():
        pytest.skip("the shared slides are not here")
    return folder


@pytest.fixture
def prompted():
    """An object with a hole, a second part and every field filled."""
    ring = box(100, 100, 160, 150).difference(box(110, 110, 120, 120))
    window = Window(130.5, 125.25, (0.5, 0.75), (512, 256))
    return SlideObject(
        geometry=MultiPolygon([ring, box(200, 100, 210.55, 110.25)]),
        class_name="Tumour: Positive",
        name="gland Ω 1",
        locked=True,
        provenance=Provenance(
            source="prompted",
            author="Dr. Żółć",
            model="histosam-small",
            weights_hash="ab" * 32,
            window=window,
            prompts=(
                Prompt(Point(130.5, 125.25), "positive", "7", "Tumour"),
                Prompt(box(90, 90, 220, 160), "box", "7"),
            ),
            score=0.93,
            first_mask=shapely.box(101, 101, 159, 149),
            seconds=2.5,
        ),
        measurements={"SAM Quality": 0.5, "Nucleus/Cell ratio": float("nan")},
        metadata={"ANNOTATION_DESCRIPTION": "seen by two", "reader": "x"},
    )


@pytest.fixture
def plain():
    return SlideObject(geometry=box(10, 20, 40, 60), provenance=Provenance(author="me"))


@pytest.fixture
def failing_disk(monkeypatch):
    """Let every fsync fail as a full disk or a vanished drive does."""
    import os

    def let_fail(code):
        def fail(_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)

    return let_fail
