"""Folders of labelled images: what is read, which splits are taken, how broken ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.labelled import entries, find_sets, read_all

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def nuclei(tmp_path: Path, paint: Callable, write_set: Callable) -> Path:
    """A set of three pictures with one, two and three objects."""
    folder = tmp_path / "data" / "nuclei"
    places = [(20, 20, 8), (50, 30, 9), (80, 20, 7)]
    pictures = {f"dsb_{number}": paint(48, 100 + number, *places[:number]) for number in (1, 2, 3)}
    write_set(folder, pictures)
    return folder


def change(folder: Path, number: int = 0, drop: str = "", **members: object) -> None:
    """Change members of one item of an index, or drop one."""
    path = folder / "index.json"
    index = json.loads(path.read_text("utf-8"))
    item = index["items"][number]
    item.update(members)
    item.pop(drop, None)
    path.write_text(json.dumps(index), "utf-8")


def names(folder: Path, splits: list[str] | None = None) -> list[str]:
    return [entry.name for entry in entries(folder, splits)]


def test_a_set_is_read(nuclei: Path) -> None:
    change(nuclei, 1, mpp=0.25)
    first, second, third = entries(nuclei)
    assert (first.name, first.set_name, first.source) == ("dsb_1", "nuclei", "dsb")
    assert (first.mpp, second.mpp) == (None, 0.25)
    image, labels = third.read()
    assert image.shape == (48, 103, 3)
    assert image.dtype == np.uint8
    assert labels.shape == (48, 103)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert image[20, 20].tolist() == [90, 60, 140]  # red, green, blue
    assert image[0, 0].tolist() == [226, 188, 208]
    assert labels[20, 80] == 3
    assert [(e.name, i.shape, m.max()) for e, i, m in read_all([first, third])] == [
        ("dsb_1", (48, 101, 3), 1),
        ("dsb_3", (48, 103, 3), 3),
    ]


def test_more_than_255_objects_keep_their_numbers(tmp_path: Path, write_set: Callable) -> None:
    labels = np.arange(900, dtype=np.uint16).reshape(30, 30)
    write_set(tmp_path / "many", {"a_1": (np.zeros((30, 30, 3), np.uint8), labels)})
    (entry,) = entries(tmp_path / "many")
    assert np.array_equal(entry.read()[1], labels)


def test_only_instance_masks_are_taken(nuclei: Path) -> None:
    change(nuclei, 0, mask_kind="semantic")
    change(nuclei, 1, drop="mask")
    change(nuclei, 2, drop="mask_kind")  # not said: instance
    assert names(nuclei) == ["dsb_3"]


def test_an_index_may_be_a_bare_list(nuclei: Path) -> None:
    path = nuclei / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))["items"]), "utf-8")
    assert names(nuclei) == ["dsb_1", "dsb_2", "dsb_3"]


def test_splits_beside_the_set(nuclei: Path, write_splits: Callable) -> None:
    listed = {"dev_train": ["dsb_1"], "dev_val": ["dsb_2"], "test": ["dsb_3", "gone"]}
    write_splits(nuclei.parent, {"nuclei": listed, "glands": {"other": ["dsb_1"]}})
    assert names(nuclei) == ["dsb_2", "dsb_3"]  # all that are not for training
    assert names(nuclei, ["dev_train"]) == ["dsb_1"]
    assert names(nuclei, ["test", "dev_train"]) == ["dsb_1", "dsb_3"]
    with pytest.raises(InputError, match="no split other of nuclei, but dev_train, dev_val, test"):
        entries(nuclei, ["other"])


def test_splits_in_the_set_come_first(nuclei: Path, write_splits: Callable) -> None:
    write_splits(nuclei.parent, {"nuclei": {"val": ["dsb_1"]}})
    (nuclei / "splits.json").write_text(json.dumps({"nuclei": {"val": ["dsb_3"]}}), "utf-8")
    assert names(nuclei) == ["dsb_3"]


def test_without_splits_all_images_are_taken(nuclei: Path, write_splits: Callable) -> None:
    assert len(names(nuclei)) == 3
    with pytest.raises(InputError, match="has no splits, so no split dev_val"):
        entries(nuclei, ["dev_val"])
    write_splits(nuclei.parent, {"glands": {"val": ["dsb_1"]}})  # of another set
    assert len(names(nuclei)) == 3


def test_sets_are_found(nuclei: Path, write_set: Callable, tmp_path: Path) -> None:
    root = nuclei.parent
    assert find_sets(nuclei) == [nuclei]
    write_set(root / "glands", {})
    (root / "notes").mkdir()
    assert find_sets(root) == [root / "glands", nuclei]
    for nowhere in (root / "notes", tmp_path / "none"):
        with pytest.raises(InputError, match="holds no data set"):
            find_sets(nowhere)


def test_a_missing_or_damaged_file_is_named(nuclei: Path) -> None:
    first, second, third = entries(nuclei)
    first.image.unlink()
    with pytest.raises(InputError, match=r"images.dsb_1\.png is missing or no image"):
        first.read()
    second.mask.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"masks.dsb_2\.png is missing or no image"):
        second.read()
    with pytest.raises(InputError, match=r"dsb_1\.png"):
        list(read_all([third, first]))


def test_a_mask_has_one_channel_and_its_images_size(nuclei: Path) -> None:
    first, second, _ = entries(nuclei)
    first.mask.write_bytes(second.mask.read_bytes())
    with pytest.raises(InputError, match=r"\(48, 102\) and its image \(48, 101\)"):
        first.read()
    second.mask.write_bytes(second.image.read_bytes())
    with pytest.raises(InputError, match="one channel"):
        second.read()


@pytest.mark.parametrize(
    "broken",
    [
        {"drop": "image"},
        {"drop": "id"},
        {"image": None},
        {"mpp": "fine"},
        {"image": "../elsewhere.png"},
        {"mask": "masks/../../elsewhere.png"},
        {"mask": "/masks/dsb_2.png"},
    ],
)
def test_a_broken_item_is_refused(nuclei: Path, broken: dict) -> None:
    change(nuclei, 1, **broken)
    with pytest.raises(InputError, match=r"index\.json has an item without a proper"):
        entries(nuclei)


@pytest.mark.parametrize("text", ["no JSON", '{"items": 5}', "[5]"])
def test_a_broken_index_is_refused(nuclei: Path, text: str) -> None:
    (nuclei / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        entries(nuclei)


def test_a_set_without_an_index_or_with_broken_splits_is_refused(nuclei: Path) -> None:
    (nuclei.parent / "splits.json").write_text("{")
    with pytest.raises(InputError, match=r"splits\.json cannot be read"):
        entries(nuclei)
    with pytest.raises(InputError, match=r"index\.json cannot be read"):
        entries(nuclei.parent / "none")


def test_the_folder_may_be_where_one_is(
    nuclei: Path, write_splits: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_splits(nuclei.parent, {"nuclei": {"train": ["dsb_1"], "val": ["dsb_2"]}})
    monkeypatch.chdir(nuclei)
    for here in (Path(), Path("../nuclei"), Path("images/..")):
        (folder,) = find_sets(here)
        assert [(e.name, e.set_name) for e in entries(folder)] == [("dsb_2", "nuclei")]
    assert [folder.name for folder in find_sets(Path(".."))] == ["nuclei"]


def test_names_may_be_numbers(nuclei: Path, write_splits: Callable) -> None:
    change(nuclei, 1, id=17)
    write_splits(nuclei.parent, {"nuclei": {"val": [17]}})
    assert names(nuclei) == ["17"]


@pytest.mark.parametrize("mpp", [0, -0.5, "nan", float("inf")])
def test_an_impossible_scale_is_refused(nuclei: Path, mpp: object) -> None:
    change(nuclei, 1, mpp=mpp)
    with pytest.raises(InputError, match=r"index\.json has an item without a proper mpp"):
        entries(nuclei)


def test_odd_splits_are_none_or_refused(nuclei: Path) -> None:
    path = nuclei.parent / "splits.json"
    path.write_text('{"sets": []}')
    assert len(names(nuclei)) == 3
    path.write_text('{"sets": {"nuclei": {"val": 5}}}')
    with pytest.raises(InputError, match="the split val of nuclei must list names"):
        entries(nuclei)


def test_an_unreadable_image_is_told_once(nuclei: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second, _ = entries(nuclei)
    first.image.unlink()
    second.image.write_bytes(b"")
    for entry in (first, second):
        with pytest.raises(InputError, match="missing or no image"):
            entry.read()
    assert capfd.readouterr() == ("", "")  # nor does a library say anything


def test_splits_in_a_renamed_set_still_hold(nuclei: Path) -> None:
    listed = {"train": ["dsb_1"], "val": ["dsb_2", "dsb_3"]}
    (nuclei / "splits.json").write_text(json.dumps({"sets": {"nuclei": listed}}), "utf-8")
    renamed = nuclei.rename(nuclei.with_name("other"))
    assert names(renamed) == ["dsb_2", "dsb_3"]
    assert names(renamed, ["train"]) == ["dsb_1"]
