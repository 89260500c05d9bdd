"""Windows with areas, what lies beyond them, and how answers are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.window_trainable import UNKNOWN, Look
from napari_histosam.train.evaluation.areas import AreaFigures
from napari_histosam.train.labelled import entries
from napari_histosam.train.windowed.area_tally import AreaTally
from napari_histosam.train.windowed.area_windows import AreaSource, cut_areas
from napari_histosam.train.windowed.kept import Known
from napari_histosam.train.windowed.subjects import AREAS, OBJECTS, subject_of
from napari_histosam.train.windowed.verdict import judged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CARD = ModelCard("r", "sam-lung", "t", "none", (), 64, 1.0, finds="regions", classes=("Tumour",))


@pytest.fixture
def folder(tmp_path: Path, paint: Callable, write_set: Callable) -> Path:
    root = tmp_path / "areas"
    image, labels = paint(100, 90, (40, 50, 30))
    labels[:10] = UNKNOWN
    small = paint(20, 30)
    write_set(
        root,
        {"own_0": (image, labels.astype(np.uint8)), "own_1": (small[0], small[1].astype(np.uint8))},
        mask_kind="semantic",
        mpp=1.0,
    )
    return root


def test_windows_show_what_is_known(folder: Path) -> None:
    source, found = AreaSource(("Tumour",)), entries(folder, areas=True)
    parts = cut_areas(found, CARD, source)
    assert len(parts) == 3 * 2 + 1
    counts = np.zeros((100, 90), int)
    for part in parts[:-1]:
        seen = source.read(part)
        areas = seen.truth.areas
        assert areas is not None
        assert seen.images[0].shape == (64, 64, 3)
        left, top = (round(value) for value in part.window.bounds[:2])
        counts[top : top + 64, left : left + 64] += 1
        dark = seen.images[0][..., 0] < 160
        known = areas != UNKNOWN
        np.testing.assert_array_equal(dark[known], areas[known] == 1)
        assert (areas[: max(10 - top, 0)] == UNKNOWN).all()
    assert counts.all()
    # Of a picture smaller than the window, what is around it is unknown.
    areas = source.read(parts[-1]).truth.areas
    assert areas is not None
    assert (areas != UNKNOWN).sum() == 20 * 30
    assert (areas[22:42, 17:47] == 0).all()


def test_images_without_areas_are_told(folder: Path) -> None:
    source, (whole, empty) = AreaSource(("Tumour",)), entries(folder, areas=True)
    with pytest.raises(InputError, match="No mask shows an area of Tumour"):
        cut_areas([empty], CARD, source)
    notes: list[str] = []
    source.whole(empty)
    unknown = replace(empty, name="own_2")
    source._last = ("areas/own_2", *(np.full_like(a, UNKNOWN) for a in source.whole(empty)))
    parts = cut_areas([unknown, whole], CARD, source, notes.append)
    assert {part.entry.name for part in parts} == {"own_0"}
    assert len(notes) == 1
    assert "nothing is known" in notes[0]


def test_seeing_a_frequent_class_everywhere_is_no_good_answer() -> None:
    truth = np.ones((10, 10), np.uint8)
    truth[:3] = 0
    figures = AreaFigures(1)
    figures.add("a", np.ones((1, 10, 10), np.float32), truth)
    assert figures.dice() == pytest.approx(14 / 17)
    assert figures.dice(ground=True) == pytest.approx(7 / 17)


class Answers:
    """Says that dark px are tumour, or that bright ones are."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def likely(self, window: Look) -> np.ndarray:
        areas = window.truth.areas
        assert areas is not None
        found = (areas == 1) == self.right
        return np.where(found, 0.9, 0.1).astype(np.float32)[None]


def test_answers_are_judged_by_their_areas(folder: Path) -> None:
    source, found = AreaSource(("Tumour",)), entries(folder, areas=True)
    judges: list[dict[str, Any]] = []
    for right in (False, True):
        by_group: dict[str, AreaTally] = {}
        for part in cut_areas(found, CARD, source):
            seen = source.read(part)
            tally = by_group.setdefault(part.entry.name, AreaTally(1))
            tally.add(Answers(right), Known(part, seen, Look({}, {}, seen.truth)))
        judges.append(by_group)
    assert [tally.count for tally in judges[1].values()] == [1, 1]
    good = AreaTally.of(list(judges[1].values())).score()
    assert good == {"dice_all": 1, "dice": 1, "iou": 1, "auc": 1}
    assert next(iter(good)) == "dice_all"
    bad = AreaTally.of(list(judges[0].values())).score()
    assert bad["auc"] == 0
    assert bad["dice"] == 0
    told = judged(judges[0], judges[1], "images")
    assert (told["verdict"], told["n_images"], told["n_groups"]) == ("better", 2, 2)
    assert judged(judges[1], judges[0], "images")["verdict"] == "worse"


def test_what_a_model_finds_decides_what_it_learns_from() -> None:
    assert subject_of(CARD) is AREAS
    assert subject_of(replace(CARD, finds="objects")) is OBJECTS
