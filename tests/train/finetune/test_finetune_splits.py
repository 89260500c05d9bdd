"""Who teaches and who judges: named splits, whole groups, plain refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.finetune.plan import Plan
from napari_histosam.train.finetune.splits import data_hash, divide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(part) -> list[str]:
    return [entry.name for entry in part]


def test_named_splits_are_taken_by_their_names(plan: Callable, write_splits: Callable) -> None:
    one = plan()
    write_splits(
        one.data,
        {"nuclei": {"dev_train": ["own_0"], "dev_val": ["own_1"], "my_test": ["own_2", "own_3"]}},
    )
    found = divide(one)
    assert names(found.train) == ["own_0"]
    assert names(found.val) == ["own_1"]
    assert names(found.test) == names(found.judged) == ["own_2", "own_3"]
    assert found.notes == ()


def test_without_a_test_split_validation_judges_and_says_so(plan: Callable) -> None:
    found = divide(plan())
    assert names(found.judged) == ["own_3"]
    assert any("also chose the best epoch" in note for note in found.notes)


def test_whole_groups_are_held_out_where_no_split_is_named(
    plan: Callable, data: Path, paint: Callable, write_set: Callable
) -> None:
    (data / "splits.json").unlink()
    pictures = {f"own_{i}": paint(60, 60, (30, 30, 10)) for i in range(6)}
    items = write_set(data / "nuclei", pictures)
    import json

    for number, item in enumerate(items):
        item["group"] = f"slide {number // 2}"
    (data / "nuclei" / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    found = divide(plan())
    held = {entry.group for entry in found.val}
    assert len(held) == 1
    assert len(found.val) == 2
    assert not held & {entry.group for entry in found.train}
    assert any("held out, as whole groups (slide" in note for note in found.notes)
    assert names(divide(plan()).val) == names(found.val)


@pytest.mark.parametrize(("count", "what"), [(1, "one image"), (3, "images of one group only")])
def test_nothing_to_hold_out_is_refused(
    plan: Callable, data: Path, paint: Callable, write_set: Callable, count: int, what: str
) -> None:
    (data / "splits.json").unlink()
    pictures = {f"own_{i}": paint(60, 60, (30, 30, 10)) for i in range(count)}
    write_set(data / "nuclei", pictures, group="slide")
    with pytest.raises(InputError, match=f"{what}: training needs another slide"):
        divide(plan())


def test_groups_that_are_on_both_sides_are_told(plan: Callable, data: Path) -> None:
    path = data / "nuclei" / "index.json"
    path.write_text(path.read_text("utf-8").replace('"classes"', '"group": "a", "classes"'))
    assert any("share 1 groups" in note for note in divide(plan()).notes)


def test_splits_without_one_to_train_on_are_refused(plan: Callable, write_splits: Callable) -> None:
    one = plan()
    write_splits(one.data, {"nuclei": {"a": ["own_0"], "val": ["own_1"]}})
    with pytest.raises(InputError, match="the splits a, val, none of which"):
        divide(one)
    write_splits(one.data, {"nuclei": {"train": [], "val": ["own_1"]}})
    with pytest.raises(InputError, match="no image with an instance mask to train on"):
        divide(one)
    with pytest.raises(InputError, match="no set glands, but nuclei"):
        divide(replace(one, sets=("glands",)))


def test_a_limit_is_drawn_by_the_seed(plan: Callable) -> None:
    assert len(divide(plan(limit=2)).train) == 2
    assert names(divide(plan(limit=2)).train) == names(divide(plan(limit=2)).train)
    assert len(divide(plan(limit=9)).train) == 3


def test_the_data_s_hash_follows_index_splits_and_manifest(plan: Callable, data: Path) -> None:
    first = data_hash(plan())
    assert first == data_hash(plan(seed=4))
    (data / "splits.json").write_text((data / "splits.json").read_text("utf-8") + " ", "utf-8")
    second = data_hash(plan())
    assert second != first
    (data / "manifest.json").write_text("{}", "utf-8")
    assert data_hash(plan()) not in (first, second)


@pytest.mark.parametrize(
    ("member", "value"),
    [("epochs", 0), ("batch", 0), ("seed", -1), ("devices", 0), ("rate", 0.0), ("limit", 0)],
)
def test_numbers_without_sense_are_refused(plan: Callable, member: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{member}"):
        plan(**{member: value}).check()


def test_the_rate_rises_and_falls() -> None:
    from pathlib import Path as AnyPath

    plan = Plan(AnyPath("a"), "m", "decoder", AnyPath("b"), warm_up=0.1)
    rates = [plan.rate_at(step, 100, 1.0) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.03
