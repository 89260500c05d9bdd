"""Training images: their objects measured, read from folders with splits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.small.pool import SMALLEST_PX, Source, measured, read_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_objects_are_measured() -> None:
    labels = np.zeros((60, 80), np.uint16)
    labels[10:20, 30:36] = 4
    labels[40:60, 0:7] = 900
    labels[0:4, 70:76] = 7  # 24 px, the fewest
    labels[30:31, 20:43] = 2  # 23 px
    image = np.zeros((60, 80, 3), np.uint8)
    found = measured("tnbc_12_3", image, labels)
    assert SMALLEST_PX == 24
    assert (found.name, found.kind, found.fluorescent) == ("tnbc_12_3", "tnbc", False)
    assert found.numbers.tolist() == [4, 7, 900]
    assert found.areas.tolist() == [60, 24, 140]
    assert found.bounds.tolist() == [[30, 10, 36, 20], [70, 0, 76, 4], [0, 40, 7, 60]]


def test_an_image_without_objects() -> None:
    found = measured("dsb_1", np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint16))
    assert len(found.numbers) == len(found.bounds) == len(found.areas) == 0


def test_an_object_in_two_parts_is_one() -> None:
    labels = np.zeros((40, 40), np.uint16)
    labels[0:5, 0:5], labels[30:35, 20:25] = 1, 1
    found = measured("dsb_1", np.zeros((40, 40, 3), np.uint8), labels)
    assert found.bounds.tolist() == [[0, 0, 25, 35]]
    assert found.areas.tolist() == [50]


def test_levels_are_halved_by_averaging() -> None:
    image = np.zeros((400, 241, 3), np.uint8)
    image[::2, ::2] = 200  # a pattern that skipping pixels would make plain
    levels = measured("dsbf_1", image, np.zeros((400, 241), np.uint16)).levels
    assert [level.shape[:2] for level in levels] == [(400, 241), (200, 120), (100, 60)]
    assert levels[0] is image
    for level in levels[1:]:
        assert level.dtype == np.uint8
        assert np.abs(level[:, :-1].astype(int) - 50).max() <= 3
    small = np.zeros((96, 500, 3), np.uint8)
    assert len(measured("a", small, np.zeros((96, 500), np.uint16)).levels) == 1


def test_fluorescence_is_told_by_its_data_set() -> None:
    image, labels = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint16)
    assert measured("dsbf_1", image, labels).fluorescent
    assert not measured("dsb_1", image, labels).fluorescent


@pytest.fixture
def root(tmp_path: Path, paint: Callable, write_set: Callable, write_splits: Callable) -> Path:
    one = paint(40, 40, (20, 20, 9))
    write_set(tmp_path / "nuclei", {"dsb_1": one, "dsb_2": one, "dsb_3": paint(40, 40)})
    write_set(tmp_path / "glands", {"ebhi_1": paint(50, 60, (20, 20, 9), (45, 30, 12))})
    write_splits(
        tmp_path,
        {
            "nuclei": {"pool_train": ["dsb_1", "dsb_3"], "pool_val": ["dsb_2"]},
            "glands": {"pool_train": ["ebhi_1"]},
        },
    )
    return tmp_path


def test_splits_of_several_sets_are_read(root: Path) -> None:
    sources = [Source(root, name, "pool_train") for name in ("glands", "nuclei")]
    glands, nuclei = read_pool(sources)  # and not the one without objects
    assert (glands.name, glands.kind, nuclei.name) == ("ebhi_1", "ebhi", "dsb_1")
    assert glands.labels.dtype == np.uint16
    assert glands.image.shape == (50, 60, 3)
    assert glands.image[20, 20].tolist() == [90, 60, 140]
    assert glands.numbers.tolist() == [1, 2]
    assert [p.name for p in read_pool([Source(root, "nuclei", "pool_val")])] == ["dsb_2"]


def test_what_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="no split dev_val of nuclei"):
        read_pool([Source(root, "nuclei", "dev_val")])
    with pytest.raises(InputError, match=r"index\.json"):
        read_pool([Source(root, "nothing", "pool_val")])
    index = json.loads((root / "glands" / "index.json").read_text("utf-8"))
    (root / "glands" / index["items"][0]["mask"]).unlink()
    with pytest.raises(InputError, match=r"ebhi_1\.png is missing"):
        read_pool([Source(root, "glands", "pool_train")])
