"""Splits: slides stay put, patients stay together, small sets get what they need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.train.dataset.splits import Placed, draw, place, split_of

names = st.text("abcdef", min_size=1, max_size=6)
several = st.dictionaries(names, names, min_size=1, max_size=12)
SHARES = (0.2, 0.2)


def by(split: str, count: int = 1, seed: int = 0) -> list[str]:
    """Names that a seed puts into a split."""
    found = (f"s{i}" for i in range(10_000))
    return [name for name in found if split_of(name, seed, *SHARES) == split][:count]


def splits(placed: dict[str, Placed]) -> dict[str, str]:
    return {slide: one.split for slide, one in placed.items()}


@given(several, several, st.integers(0, 5))
def test_adding_slides_changes_no_split(first: dict, more: dict, seed: int) -> None:
    groups = {f"{slide}": f"g{group}" for slide, group in first.items()}
    before = place(groups, seed, *SHARES)
    wider = {**{f"new {slide}": f"h{group}" for slide, group in more.items()}, **groups}
    after = place(wider, seed, *SHARES, before)
    assert {slide: after[slide] for slide in groups} == before
    # Without the folder's memory, too, but for slides that were moved since there were so few.
    anew = place(wider, seed, *SHARES)
    for slide, one in anew.items():
        if one.why == "hash":
            assert one.split == split_of(wider[slide], seed, *SHARES)


@given(several, st.integers(0, 5))
def test_a_group_is_never_split_and_something_is_held_out(groups: dict, seed: int) -> None:
    placed = place(groups, seed, *SHARES)
    for group in set(groups.values()):
        assert len({placed[slide].split for slide in groups if groups[slide] == group}) == 1
    found = {one.split for one in placed.values()}
    assert "train" in found
    assert "val" in found or len(set(groups.values())) == 1


def test_shares_are_met_by_many_slides() -> None:
    placed = place({f"s{i}": f"s{i}" for i in range(4000)}, 3, 0.1, 0.3)
    found = list(splits(placed).values())
    assert found.count("val") / 4000 == pytest.approx(0.1, abs=0.02)
    assert found.count("test") / 4000 == pytest.approx(0.3, abs=0.02)
    assert all(one.why == "hash" for one in placed.values())


def test_the_seed_decides() -> None:
    assert draw("a", 0) != draw("a", 1)
    assert 0 <= draw("a", 0) < 1


def test_one_slide_is_for_training_wherever_the_hash_would_put_it() -> None:
    for split in ("train", "val", "test"):
        (name,) = by(split)
        assert splits(place({name: name}, 0, *SHARES)) == {name: "train"}


def test_two_slides_are_one_to_train_and_one_to_validate() -> None:
    for pair in (by("train", 2), by("test", 2), by("val", 2), [*by("test"), *by("train")]):
        placed = place({name: name for name in pair}, 0, *SHARES)
        assert sorted(splits(placed).values()) == ["train", "val"]


def test_what_was_trained_on_is_not_moved_for_the_second_slide() -> None:
    a, b = by("train", 2)
    kept = place({a: a}, 0, *SHARES)
    placed = place({a: a, b: b}, 0, *SHARES, kept)
    assert placed[a] == kept[a]
    assert placed[b] == Placed("val", "few")


def test_a_frozen_test_set_does_not_grow() -> None:
    a, b = by("test", 2)
    train, val = by("train")[0], by("val")[0]
    kept = {a: Placed("test", "hash"), train: Placed("train", "hash"), val: Placed("val", "hash")}
    groups = {name: name for name in (a, b, train, val)}
    assert place(groups, 0, *SHARES, kept, frozen=True)[b] == Placed("val", "frozen")
    assert place(groups, 0, *SHARES, kept)[b] == Placed("test", "hash")


def test_slides_of_a_held_out_patient_leave_training() -> None:
    kept = {"a": Placed("test", "hash"), "b": Placed("train", "hash"), "c": Placed("train", "hash")}
    groups = {"a": "ann", "b": "ann", "new": "ann", "c": "cy"}
    placed = splits(place(groups, 0, *SHARES, kept, frozen=True))
    assert placed == {"a": "test", "b": "val", "new": "val", "c": "train"}
    assert splits(place(groups, 0, *SHARES, kept))["b"] == "test"
