"""Labels of patches from three layouts; who teaches, who chooses; what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.models import ModelRegistry
from napari_histosam.train.patchwise.base import card_of
from napari_histosam.train.patchwise.division import divide_patches
from napari_histosam.train.patchwise.labels import listed_patches, patch_entries
from napari_histosam.train.patchwise.patches import Patches
from napari_histosam.train.patchwise.plan import PatchPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def plan_for(data: Path, **more: Any) -> PatchPlan:
    return PatchPlan(data, "ep-small", "patches", data.parent / "run", **more)


def refused(call: Callable, *args: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def relabel(folder: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    told = json.loads((folder / "index.json").read_text())
    for number, item in enumerate(told["items"]):
        change(number, item)
    (folder / "index.json").write_text(json.dumps(told))


def test_a_data_set_is_divided_by_group(make_patches: Callable, tmp_path: Path) -> None:
    folder = make_patches(tmp_path / "set", 24)
    found = patch_entries(folder)
    assert [entry.tumour for entry in found[:3]] == [True, False, True]
    assert found[5].mpp == 0.5
    division = divide_patches(plan_for(folder))
    assert len(division.train) + len(division.val) == 24
    groups = {entry.group for entry in division.val}
    assert not groups & set(division.groups)
    assert {entry.tumour for entry in division.val} == {True, False}
    assert any("whole groups" in note for note in division.notes)
    assert division == divide_patches(plan_for(folder))
    assert division != divide_patches(plan_for(folder, seed=3))


def test_splits_of_the_data_are_respected_and_its_test_stays_unread(
    make_patches: Callable, tmp_path: Path
) -> None:
    folder = make_patches(tmp_path / "set", 24)
    names = [f"p{n}" for n in range(24)]
    splits = {"pool_train": names[:12], "dev_val": names[12:18], "test": names[18:22]}
    (folder / "splits.json").write_text(json.dumps({"sets": {"set": splits}}))
    division = divide_patches(plan_for(folder))
    assert [entry.name for entry in division.train] == names[:12]
    assert [entry.name for entry in division.val] == names[12:18]
    assert [e.name for e in patch_entries(folder, ["test"])] == names[18:22]
    assert "share" in " ".join(division.notes)  # both have patches of slide0
    assert len(divide_patches(plan_for(folder, limit=6)).train) == 6


def test_one_slide_is_enough_to_begin_with(make_patches: Callable, tmp_path: Path) -> None:
    folder = make_patches(tmp_path / "set", 20, groups=1)
    division = divide_patches(plan_for(folder))
    assert len(division.val) == 4
    assert {entry.tumour for entry in division.val} == {True, False}
    assert "better than they are" in " ".join(division.notes)


def test_the_authors_folders(picture: Callable, tmp_path: Path) -> None:
    data = tmp_path / "camelyon"
    for part, count in (("train", 12), ("val", 4), ("test", 2)):
        (data / part / "image").mkdir(parents=True)
        for number in range(count):
            name = f"{number:05d}_{1 - number % 2}"
            cv2.imwrite(str(data / part / "image" / f"{name}.png"), picture(number)[..., ::-1])
        (data / part / "image" / "Thumbs.db").write_bytes(b"x")  # must not shift the labels
    division = divide_patches(plan_for(data))
    assert (len(division.train), len(division.val)) == (12, 4)
    assert all(entry.tumour == entry.image.stem.endswith("_1") for entry in division.train)
    assert len({e.name for e in (*division.train, *division.val)}) == 16  # names recur on disk
    (data / "train" / "image" / "00077_7.png").write_bytes(b"x")
    assert "'7'" in refused(divide_patches, plan_for(data))


def test_a_table(picture: Callable, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    rows = ["image, Label,group,mpp"]
    for number in range(12):
        cv2.imwrite(str(tmp_path / "own" / f"{number}.png"), picture(number)[..., ::-1])
        rows.append(f"own/{number}.png,{('Tumour', 0)[number % 2]},s{number // 2 % 3},0.25")
    table = tmp_path / "labels.csv"
    table.write_text("\ufeff" + "\n".join(rows), "utf-8")
    found = listed_patches(table)
    assert [entry.tumour for entry in found] == [True, False] * 6
    assert (found[3].group, found[3].mpp) == ("s1", 0.25)
    np.testing.assert_array_equal(found[4].read(), picture(4))
    assert len(divide_patches(plan_for(table)).train) == 8
    table.write_text("\n".join([*rows, "own/1.png,maybe,s0,"]))
    assert "row 14" in refused(listed_patches, table)
    table.write_text("\n".join([*rows, "own/1.png,,s0,"]))
    assert "has no label" in refused(listed_patches, table)
    table.write_text("\n".join([*rows, "own/1.png,1,s0,-2"]))
    assert "above 0" in refused(listed_patches, table)
    table.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(listed_patches, table)


def test_bad_labels_are_refused_in_a_sentence(make_patches: Callable, tmp_path: Path) -> None:
    folder = make_patches(tmp_path / "set", 16)
    plan = plan_for(folder)
    relabel(folder, lambda number, item: item.update(label="normal") if number < 8 else None)
    assert "only 4 are labelled tumour (12 normal)" in refused(divide_patches, plan)
    relabel(folder, lambda number, item: item.update(label="normal"))
    assert "no patch is labelled tumour" in refused(divide_patches, plan)
    relabel(folder, lambda number, item: item.update(label="perhaps"))
    assert "write tumour or normal" in refused(divide_patches, plan)
    relabel(folder, lambda number, item: item.pop("label"))
    assert "no labelled patch" in refused(divide_patches, plan)
    relabel(folder, lambda number, item: item.update(label=1, image="../secret.png"))
    assert "outside the folder" in refused(divide_patches, plan)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no data set" in refused(divide_patches, plan_for(empty))


def test_numbers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "x"
    wrong: dict[str, Any] = {"percentile": 101, "agreement": 1.5, "rounds": -1, "views": 5}
    wrong |= {"patch_px": 8, "decoder_epochs": 0, "decoder_rate": -1.0, "devices": 2}
    for name, value in wrong.items():
        assert name.replace("_", "-") in refused(plan_for(data, **{name: value}).check)
    plan_for(data).check()


def test_a_profile_brings_its_percentile_unless_one_is_given(tmp_path: Path) -> None:
    base = next(c for c in ModelRegistry().cards().values() if c.decoder == "ep-sam")
    data = tmp_path / "x"
    for more, name, percentile in (
        ({}, "camelyon16", 10.0),
        ({"profile": "camelyon17"}, "camelyon17", 30.0),
        ({"profile": "camelyon17", "percentile": 50.0}, "camelyon17", 50.0),
    ):
        recipe = card_of(base, plan_for(data, **more)).recipe
        assert (recipe["cam_profile"], recipe["percentile"]) == (name, percentile)


def test_patches_are_seen_at_one_side(tmp_path: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "b.csv").write_text("image,label,mpp\na.png,1,0.25\n")
    (entry,) = listed_patches(tmp_path / "b.csv")
    patches = Patches(64)
    seen = patches.of(entry)
    assert seen.shape == (64, 64, 3)
    assert not seen[:32].any()
    assert (seen[32:] == 255).all()
    assert patches.scale(entry) == 0.25 * 80 / 64
