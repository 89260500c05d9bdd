"""Whether a model got better: paired by object, uncertain by group."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.evaluation.compare import compare, sentence
from napari_histosam.train.evaluation.protocol import Outcome
from napari_histosam.train.labelled import Entry


def outcome(group: str, number: int, iou: float) -> Outcome:
    entry = Entry(f"{group}_a", "set", "own", Path("i"), Path("m"), None, group)
    return Outcome(
        entry=entry, number=number, area=100, cut=False, prompted_box=(0, 0, 1, 1),
        clicks=(iou, iou, iou), random=iou, box=iou, ellipse=0.5, click_score=0.5, box_score=0.5,
        offered=(iou,), followed=(), encode_ms=(), decode_ms=(),
    )  # fmt: skip


def objects(gain: float, spread: float = 0.02, groups: int = 12) -> list[Outcome]:
    rng = np.random.default_rng(0)
    return [
        outcome(f"g{g}", n, 0.6 + gain + float(rng.normal(0, spread)))
        for g in range(groups)
        for n in range(4)
    ]


BEFORE = [outcome(f"g{g}", n, 0.6) for g in range(12) for n in range(4)]


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [(0.1, 0.02, "better"), (-0.1, 0.02, "worse"), (0.0, 0.1, "same"), (0.001, 0.0, "same")],
)
def test_the_verdict_follows_the_interval(gain: float, spread: float, verdict: str) -> None:
    found = compare(BEFORE, objects(gain, spread))
    assert found["verdict"] == verdict
    assert (found["n_objects"], found["n_groups"]) == (48, 12)
    for one in found["figures"].values():
        assert one["low"] <= one["gain"] <= one["high"]
        assert one["after"] - one["before"] == pytest.approx(one["gain"], abs=2e-4)
    json.dumps(found)
    assert sentence(found).count("\n") == 0
    assert {"better": "Better", "worse": "Worse", "same": "No clear"}[verdict] in sentence(found)


def test_objects_are_paired_whatever_their_order_and_the_rest_is_left_out() -> None:
    after = objects(0.1)
    straight, mixed = compare(BEFORE, after), compare(BEFORE[::-1], after)
    assert straight == mixed
    assert compare(BEFORE, [*after, outcome("g99", 1, 0.1)]) == straight
    with pytest.raises(InputError, match="No object was asked of both"):
        compare(BEFORE, [outcome("g99", 1, 0.1)])


def test_objects_of_one_group_say_less_than_objects_of_many() -> None:
    # All the gain is in two of twelve groups.
    after = [outcome(o.entry.group, o.number, 0.9 if o.entry.group in ("g0", "g1") else 0.6)
             for o in BEFORE]  # fmt: skip
    grouped = compare(BEFORE, after)["figures"]["iou"]
    alone = [outcome("one", i, o.box) for i, o in enumerate(after)]
    single = compare([outcome("one", i, 0.6) for i in range(48)], alone)
    assert single["n_groups"] == 1
    figure = single["figures"]["iou"]
    assert grouped["high"] - grouped["low"] > figure["high"] - figure["low"]


def test_what_changed_most_is_named() -> None:
    after = [*BEFORE[:-2], outcome("g11", 2, 0.95), outcome("g11", 3, 0.1)]
    found = compare(BEFORE, after)
    assert found["best"][0] == {"set": "set", "image": "g11_a", "label": 2, "gain": 0.35}
    assert found["worst"][0]["label"] == 3
