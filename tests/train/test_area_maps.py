"""Masks of areas and of objects as maps of classes; which classes there are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from napari_histosam.models.cards import ModelCard
from napari_histosam.train.area_maps import area_map, area_names
from napari_histosam.train.labelled import Entry, entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CARD = ModelCard("r", "sam-lung", "t", "none", (), finds="regions", classes=("Tumour",))
NAMES = {"0": "ground", "1": "B", "2": "A", "255": "?"}
MASK = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


@pytest.fixture
def entry(tmp_path: Path, write_set: Callable) -> Callable[..., Entry]:
    def made(**members: Any) -> Entry:
        image = np.zeros((2, 3, 3), np.uint8)
        write_set(tmp_path / "set", {"own_0": (image, MASK)}, **members)
        (one,) = entries(tmp_path / "set", areas=True)
        return one

    return made


def test_semantic_masks_are_read_where_areas_are_asked_for(entry: Callable, tmp_path: Path) -> None:
    one = entry(mask_kind="semantic", classes=NAMES, mpp_estimate=1.4)
    assert one.semantic
    assert (one.classes, one.mpp) == ({"1": "B", "2": "A"}, 1.4)
    assert entries(tmp_path / "set") == []
    assert entry(mask_kind="semantic", mpp=0.5, mpp_estimate=1.4).mpp == 0.5
    entry(mask_kind="instance", mpp_estimate=1.4)
    assert [e.mpp for e in entries(tmp_path / "set")] == [None]


def test_labels_become_classes(entry: Callable) -> None:
    one = entry(mask_kind="semantic", classes=NAMES)
    _, areas = area_map(one, ("A", "B"))
    assert areas.tolist() == [[0, 2, 1], [255, 255, 2]]
    _, areas = area_map(one, ("A", "C"))  # what has another name is none of them
    assert areas.tolist() == [[0, 0, 1], [255, 255, 0]]
    _, areas = area_map(one, ("Tumour",))  # everything is the one class
    assert areas.tolist() == [[0, 1, 1], [1, 255, 1]]
    assert areas.dtype == np.uint8


def test_objects_are_areas_of_their_classes(entry: Callable, tmp_path: Path) -> None:
    one = entry(mask_kind="instance", classes={"*": "B", "2": "A"})
    _, areas = area_map(one, ("A", "B"))
    assert areas.tolist() == [[0, 2, 1], [2, 2, 2]]
    index = tmp_path / "set" / "index.json"
    data = json.loads(index.read_text())
    data["items"][0]["ignore"] = "ignore.png"
    index.write_text(json.dumps(data))
    cv2.imwrite(str(tmp_path / "set" / "ignore.png"), np.eye(2, 3, dtype=np.uint8))
    (one,) = entries(tmp_path / "set", areas=True)
    _, areas = area_map(one, ("Tumour",))
    assert areas.tolist() == [[255, 1, 1], [1, 255, 1]]


def test_classes_come_from_the_data(entry: Callable) -> None:
    one = entry(mask_kind="semantic")
    assert area_names([one], CARD) == ("Tumour",)
    assert area_names([replace(one, classes={"1": "carcinoma"})], CARD) == ("Tumour",)
    two = replace(one, classes={"1": "B", "2": "A"})
    assert area_names([one, two], CARD) == ("A", "B")
    assert area_names([two], CARD, "Any") == ("Any",)
    several = replace(CARD, classes=("B", "A", "C"))
    assert area_names([two], several) == ("B", "A", "C")
    assert area_names([replace(one, classes={"1": "D"})], several) == ("D",)
