"""What was corrected is asked for more often: how often, and that nothing else changes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trained import build_trainable
from napari_histosam.train.finetune.asking import question, turned
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.loop import Loop
from napari_histosam.train.finetune.mining import drawn, epoch_of, weights
from napari_histosam.train.finetune.step import Memory, Teacher, sample_seed
from napari_histosam.train.finetune.windows import Reader, Sample, View, cut
from napari_histosam.train.labelled import Entry, entries
from napari_histosam.train.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.finetune.plan import Plan


def sample(number: int, *ious: float | None) -> Sample:
    """A window with objects whose first masks had these IoUs."""
    told = {label: Recorded(iou) for label, iou in enumerate(ious, 1) if iou is not None}
    here = Path(f"{number}.png")
    entry = Entry(str(number), "set", "set", here, here, None, recorded=told)
    return Sample(entry, Window(8, 8, (1, 1), (16, 16)), tuple(range(1, len(ious) + 1)))


def record(data: Path, *lines: dict[str, Any]) -> None:
    """Write what is known of objects; all others have their homes, too."""
    told = {(line["image"], line["number"]): line for line in lines}
    for image in ("own_0", "own_1", "own_2", "own_3"):
        for number in (1, 2):
            told.setdefault((image, number), {"image": image, "number": number})
    text = "".join(json.dumps({"home": True, **line}) + "\n" for line in told.values())
    (data / "nuclei" / "objects.jsonl").write_text(text, "utf-8")


def test_weights_follow_the_first_mask() -> None:
    one = sample(0, 1.0, 0.5, 0.0, None)
    np.testing.assert_allclose(weights(one, 4.0), [1, 3, 5, 1])
    np.testing.assert_allclose(weights(one, 0.0), 1)


@given(
    st.lists(st.floats(1, 9), min_size=1, max_size=12), st.integers(1, 30), st.integers(0, 2**32)
)
def test_draws_are_within_one_of_their_share(worth: list[float], count: int, seed: int) -> None:
    values = np.array(worth)
    found = np.bincount(drawn(values, count, np.random.default_rng(seed)), minlength=len(worth))
    assert found.sum() == count
    assert (np.abs(found - count * values / values.sum()) < 1 + 1e-9).all()


def test_without_first_masks_nothing_is_drawn_otherwise() -> None:
    for strength in (0.0, 4.0):
        samples = [sample(i, None, None) for i in range(9)]
        order = np.random.default_rng((3, 5, 1)).permutation(9)
        assert epoch_of(samples, strength, 3, 5) == [samples[i] for i in order]
        assert all(one.turn == 0 for one in samples)
    ours, plain = np.random.default_rng(8), np.random.default_rng(8)
    np.testing.assert_array_equal(drawn(np.ones(7), 4, ours), plain.permutation(7)[:4])
    assert ours.random() == plain.random()


def test_objects_are_asked_for_as_often_as_their_weights_say() -> None:
    """Whatever else their windows show, and whether all of a window's objects are asked for."""
    samples = [
        sample(0, 0.0, None),
        sample(1, 1.0, 0.5, None, 1.0, 0.75, 1.0),
        sample(2, None),
        sample(3, 1.0, 1.0, 1.0),
    ]
    many, asked, epochs = 3, Counter[tuple[str, int]](), 4000
    for epoch in range(epochs):
        taken = epoch_of(samples, 4.0, 1, epoch)
        assert len(taken) == len(samples)
        assert len({(one.entry.name, one.turn) for one in taken}) == len(samples)
        for one in taken:
            rng = np.random.default_rng([1, epoch, *sample_seed(one)])
            count = min(many, len(one.numbers))
            for at in drawn(weights(one, 4.0), count, rng):
                asked[one.entry.name, one.numbers[at]] += 1
    worth = {
        (one.entry.name, number): w * min(many, len(one.numbers)) / len(one.numbers)
        for one in samples
        for number, w in zip(one.numbers, weights(one, 4.0), strict=True)
    }
    means = sum(weights(one, 4.0).mean() for one in samples) / len(samples)
    for key, expected in worth.items():
        assert asked[key] / epochs == pytest.approx(expected / means, rel=0.06), key


def test_a_window_that_is_taken_twice_is_asked_otherwise() -> None:
    samples = [sample(0, 0.0), sample(1, 1.0), sample(2, 1.0)]
    taken = next(
        found
        for found in (epoch_of(samples, 9.0, 0, epoch) for epoch in range(9))
        if any(one.turn for one in found)
    )
    seeds = [tuple(sample_seed(one)) for one in taken]
    assert len(set(seeds)) == len(seeds)
    assert sample_seed(samples[0]) == sample_seed(replace(samples[0], turn=0))


def test_recorded_prompts_reach_the_window_and_turn_with_it(data: Path) -> None:
    click = {"role": "positive", "kind": "point", "xy": [[24.0, 30.0]]}
    box = {"role": "box", "box": [57.0, 27.0, 83.0, 53.0]}
    record(
        data,
        {"image": "own_0", "number": 1, "first_iou": 0.5, "prompts": [click]},
        {"image": "own_0", "number": 2, "first_iou": 0.5, "prompts": [box]},
    )
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    (one,) = cut(entries(data / "nuclei", ["train"])[:1], model.card)
    view = Reader().read(one)
    (x, y), label = view.prompts[1].points[0], view.prompts[1].labels[0]
    assert view.labels[int(y), int(x)] == label == 1
    for seed in range(12):
        laid = turned(view, np.random.default_rng(seed))
        x, y = laid.prompts[1].points[0]
        assert laid.labels[int(y), int(x)] == 1
        ys, xs = np.nonzero(laid.labels == 2)
        tight = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(laid.prompts[2].box, tight, atol=2.5)
    # A model of boxes only gets the boxes: the one that such a model was given for a click, too.
    used = {"role": "box", "box": [12.0, 18.0, 36.0, 42.0], "by": "histosam-small"}
    record(
        data,
        {"image": "own_0", "number": 1, "prompts": [click, used]},
        {"image": "own_0", "number": 2, "prompts": [click]},
    )
    (told,) = cut(entries(data / "nuclei", ["train"])[:1], replace(model.card, prompts=("box",)))
    boxed = Reader().read(told).prompts
    assert boxed.keys() == {1}
    assert boxed[1].points is None
    corners = told.window.from_level0(np.reshape(used["box"], (2, 2)))
    np.testing.assert_allclose(boxed[1].box, corners.ravel())
    (plain,) = cut(entries(data / "nuclei", ["train"])[:1], model.card)
    clicked = Reader().read(plain).prompts[1]
    assert clicked.box is None
    np.testing.assert_array_equal(clicked.points, view.prompts[1].points)
    # A share of the questions begins with them.
    seen = Counter[bool]()
    for seed in range(200):
        made = question(model, view, 1, 0, np.random.default_rng(seed))
        assert made is not None
        at = made.place.to_net(view.prompts[1].points)[0]
        seen[made.asked.points[:1] == [tuple(at)] and made.asked.box is None] += 1
    assert 30 < seen[True] < 75


def test_a_recorded_click_beside_its_object_is_not_repeated(data: Path) -> None:
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    (one,) = cut(entries(data / "nuclei", ["train"])[:1], model.card)
    plain = Reader().read(one)
    beside = View(
        plain.image, plain.labels, {1: ObjectPrompts(np.array([[0.5, 0.5]]), np.array([1]))}
    )
    for seed in range(40):
        made, without = (
            question(model, view, 1, 0, np.random.default_rng(seed)) for view in (beside, plain)
        )
        assert made is not None
        assert without is not None
        assert made.asked.points == without.asked.points


def curve(out: Path) -> list[tuple[Any, ...]]:
    rows = [row for row in RunFolder(out).rows() if row["kind"] == "epoch"]
    return [tuple(row[name] for name in ("step", "loss", "train_iou", "val_iou")) for row in rows]


def corrected(data: Path) -> None:
    click = {"role": "positive", "kind": "point", "xy": [[30.5, 60.5]]}
    record(
        data,
        {"image": "own_1", "number": 1, "first_iou": 0.1, "prompts": [click]},
        {"image": "own_2", "number": 2, "first_iou": 0.6},
    )


def test_corrections_change_what_is_learned_and_0_switches_them_off(
    plan: Callable[..., Plan], train: Callable, data: Path
) -> None:
    asked = {"epochs": 1, "batch": 3, "objects": 1}
    for out, strength in (("plain", 4.0), ("none", 0.0)):
        train(plan(out, corrections=strength, **asked))
    corrected(data)
    for out, strength in (("off", 0.0), ("on", 4.0)):
        train(plan(out, corrections=strength, **asked))
    plain, none, off, on = (curve(plan(out).out) for out in ("plain", "none", "off", "on"))
    assert plain == none == off
    assert on != off
    trained = [RunFolder(plan(out).out).load() for out in ("plain", "off")]
    for name, value in trained[0]["trained"].items():
        assert value.equal(trained[1]["trained"][name])


@pytest.mark.slow
def test_a_weighted_run_that_stops_goes_on_with_the_same_curve(
    plan: Callable[..., Plan], train: Callable, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected(data)
    train(plan("whole"))
    learn = Loop._learn

    def stopped(self: Loop) -> None:
        learn(self)
        self._folder.ask_to_stop()

    monkeypatch.setattr(Loop, "_learn", stopped)
    while train(plan("parted"))["state"] != "done":
        pass
    assert curve(plan("parted").out) == curve(plan("whole").out)


def test_two_processes_share_the_weighted_windows(plan: Callable[..., Plan], data: Path) -> None:
    """Whatever the number of processes, together they see the same windows in each step."""
    corrected(data)
    samples = cut(entries(data / "nuclei", ["train"]), ModelRegistry().get("histosam-small"))

    def of(rank: int, world: int, epoch: int, place: int) -> list[Sample]:
        one = object.__new__(Loop)
        one._plan, one._train, one._batch, one._order = plan(), samples, 2, (-1, [])
        one._fabric = type("Fabric", (), {"global_rank": rank, "world_size": world})()
        return one._samples(epoch, place)

    for epoch in range(5):
        for place in range(2):
            alone = of(0, 1, epoch, place)
            assert of(0, 2, epoch, place) + of(1, 2, epoch, place) == alone


def test_a_strength_without_sense_is_refused(plan: Callable[..., Plan]) -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="--corrections must be 0 or more"):
            plan(corrections=value).check()


def test_a_teacher_without_corrections_leaves_prompts_alone(data: Path) -> None:
    corrected(data)
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    found = cut(entries(data / "nuclei", ["train"]), model.card)
    (one,) = [s for s in found if s.entry.name == "own_1"]
    for strength, count in ((0.0, 0), (4.0, 1)):
        teacher = Teacher(
            model, None, 0, 2, None, None, None, Memory(1), True, print, strength
        )  # type: ignore[arg-type]  # fmt: skip
        assert len(teacher._view(one, np.random.default_rng(0)).prompts) == count
