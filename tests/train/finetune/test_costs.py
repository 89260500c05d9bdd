"""What a training costs: from measured parts to a whole run, and the trial itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.train.finetune import costs, settling
from napari_histosam.train.finetune.costs import (
    Costs,
    Work,
    expected_splits,
    peak_gigabytes,
    work_of,
)
from napari_histosam.train.finetune.probe import painted, probe
from napari_histosam.train.finetune.windows import cut, parts_of

COSTS = Costs("cpu", 5.0, 0.2, 0.1, 0.02, 0.03, 0.04, 0.3, 1.2)
JUDGED = replace(COSTS, look=0.5, seek=0.1, weigh=0.01, teach=7.0)
WORK = Work(train=10, val=4, per_window=3.0, judged=12, epochs=5)
seconds = st.floats(0.001, 100)


def test_a_run_is_the_sum_of_its_parts():
    # 4 windows with 3 objects are validated, before the first epoch and after each.
    validation = 4 * (0.03 + 3 * 0.04)
    steps = 10 * (0.1 + 3 * 0.02)
    assert COSTS.epoch(WORK) == pytest.approx(steps + validation)
    assert COSTS.comparison(WORK) == pytest.approx(2 * 12 * 0.3)
    encoding = 14 * 0.2
    whole = 5.0 + encoding + validation + 5 * (steps + validation) + 2 * 12 * 0.3
    assert COSTS.whole(WORK) == pytest.approx(whole)


def test_the_last_part_is_counted():
    # Ten windows in eight rounds and four held out, three objects in each; then the teaching.
    last = (80 + 4) * (0.5 + 3 * 0.1) + 4 * 3 * 0.01 + 7.0
    assert COSTS.settling(WORK) == 0
    assert JUDGED.settling(WORK) == pytest.approx(last)
    assert JUDGED.whole(WORK) == pytest.approx(COSTS.whole(WORK) + last)
    assert JUDGED.after(WORK) == pytest.approx(last + COSTS.comparison(WORK))
    many = replace(WORK, train=300, val=300, per_window=50)
    assert JUDGED.settling(many) == pytest.approx(320 * (0.5 + 0.6) + 160 * 6 * 0.01 + 7.0)
    known = (costs._ROUNDS, costs._LOOKS, costs._SHOWN)
    assert known == (settling._ROUNDS, settling._LOOKS, settling._OBJECTS)


def test_no_more_objects_are_asked_for_than_the_trainer_asks_for():
    crowded = replace(WORK, per_window=100.0)
    assert COSTS.epoch(crowded) == pytest.approx(10 * (0.1 + 8 * 0.02) + 4 * (0.03 + 12 * 0.04))


@given(st.builds(Work, seconds, seconds, seconds, seconds, st.integers(1, 50)), seconds, seconds)
def test_costs_of_a_run_give_that_run_again(work, epochs, more):
    around = more + COSTS.validation(work) * epochs / (work.epochs * COSTS.epoch(work)) * 1.2
    found = COSTS.corrected(work, epochs + around, epochs, 3.0)
    assert found.whole(work) == pytest.approx(epochs + around)
    assert work.epochs * found.epoch(work) == pytest.approx(epochs)
    assert (found.source, found.gigabytes) == ("run", 3.0)
    again = JUDGED.corrected(work, epochs + around, epochs, 3.0)
    assert again.whole(work) == pytest.approx(epochs + around)


def test_costs_are_written_and_read():
    assert Costs.read(COSTS.record()) == COSTS
    assert Costs.read(JUDGED.record()) == JUDGED
    # Of an earlier version: it does not know the last part.
    with pytest.raises(InputError, match="measure again"):
        Costs.read({k: v for k, v in COSTS.record().items() if k != "teach"})
    for changed in ({"encode": -1.0}, {"learn": float("nan")}, {"ask": "much"}):
        with pytest.raises(InputError, match="measure again"):
            Costs.read({**COSTS.record(), **changed})
    with pytest.raises(InputError, match="measure again"):
        Costs.read({"device": "cpu"})


def test_work_follows_from_the_data_set():
    windows, objects = {"train": 4, "val": 2, "test": 0}, {"train": 40, "val": 20, "test": 0}
    whole = work_of(1, windows, objects, 3, 40)
    assert whole == Work(4, 2, 10.0, 20, 3)
    parts = work_of(9, windows, objects, 3, 40)
    # Ten objects fall into some of nine parts, and none is lost.
    assert 4 < parts.train < 36
    assert parts.train * parts.per_window == pytest.approx(40)
    assert work_of(9, windows, objects, 3, 5).judged == 10
    assert work_of(1, {**windows, "test": 1}, {**objects, "test": 7}, 3, 40).judged == 7


@given(st.integers(2, 5000), st.integers(2, 60))
def test_each_split_that_is_needed_gets_something(total, groups):
    found = expected_splits(total, groups)
    assert found["train"] >= 1
    assert found["val"] >= 1
    assert found["test"] > 0 or groups < 7 or total < 4


def test_a_trial_measures_each_part(plan, tmp_path):
    registry = ModelRegistry()
    card = registry.get("histosam-small")
    folder = tmp_path / "painted"
    folder.mkdir()
    found = painted(folder, card)
    assert len(cut(found, card)) == parts_of(card, 512)
    trial = probe(registry, plan(batch=2, objects=2), found)
    assert trial.device == "cpu"
    for cost in (trial.start, trial.encode, trial.learn + trial.ask, trial.validate):
        assert 0 < cost < 1000
    assert min(trial.last) > 0
    assert trial.last.look + 6 * trial.last.seek < 100
    assert 0.1 < trial.gigabytes <= peak_gigabytes("cpu")
