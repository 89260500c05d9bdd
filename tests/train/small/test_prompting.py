"""Prompts of a simulated user: each kind keeps to its rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_histosam.models.small.prompt_maps import draw
from napari_histosam.train.simulate import deepest_point, tight_box
from napari_histosam.train.small import prompting
from napari_histosam.train.small.prompting import (
    CORRECTIONS,
    Asked,
    batch_of,
    correct,
    first_prompts,
    inner_point,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE = 128
NO_GLASS = np.zeros((SIDE, SIDE), bool)


def asked_for(
    truth: NDArray[np.bool_], glass: NDArray[np.bool_] = NO_GLASS, count: int = 600
) -> list[Asked]:
    return [first_prompts(truth, glass, np.random.default_rng(seed)) for seed in range(count)]


def kind_of(asked: Asked) -> str:
    if asked.previous is not None:
        return "mask and click" if asked.points else "mask"
    if asked.box is not None:
        return "box and click" if asked.points else "box"
    return "click" if len(asked.points) == 1 else "clicks"


def holds(mask: NDArray[np.bool_], point: tuple[float, float]) -> bool:
    x, y = point
    assert 0 <= x <= mask.shape[1]
    assert 0 <= y <= mask.shape[0]
    return bool(mask[int(y), int(x)])


@pytest.fixture
def truth(disc: Callable) -> NDArray[np.bool_]:
    return disc(50, 70, 21)


def test_every_kind_of_prompt_occurs(truth: NDArray[np.bool_]) -> None:
    found = Counter(kind_of(asked) for asked in asked_for(truth))
    assert abs(found["click"] - 324) < 50
    assert abs(found["box"] - 180) < 40
    for kind in ("box and click", "clicks", "mask", "mask and click"):
        assert 3 <= found[kind] < 80
    assert set(found) == {"click", "clicks", "box", "box and click", "mask", "mask and click"}


def test_first_clicks_are_positive_and_inside(truth: NDArray[np.bool_]) -> None:
    places = set()
    for asked in asked_for(truth):
        assert asked.truth is truth
        assert asked.labels == [1] * len(asked.points)
        assert all(holds(truth, point) for point in asked.points)
        assert len(asked.points) <= 5
        places.update(asked.points)
    # Anywhere in the object, and now and then right in its middle.
    at = np.array(sorted(places))
    assert np.hypot(*(at - (50, 70)).T).max() > 18
    assert (np.hypot(*(at - (50, 70)).T) < 3).mean() > 0.05


def test_how_many_clicks_lie_in_the_middle(
    truth: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    def near(centred: float) -> float:
        monkeypatch.setattr(prompting, "_CENTRED", centred)
        found = []
        for seed in range(300):
            rng = np.random.default_rng(seed)
            points = first_prompts(truth, NO_GLASS, rng).points
            found += [np.hypot(x - 50, y - 70) < 8 for x, y in points]
        return float(np.mean(found))

    assert near(0.0) < 0.25  # as the area is
    assert near(1.0) > 0.7
    assert near(0.0) < near(0.5) < near(1.0)
    monkeypatch.setattr(prompting, "_CENTRED", 0.0)
    places = {inner_point(truth, np.random.default_rng(seed)) for seed in range(300)}
    assert abs(np.mean(list(places), 0) - (50, 70)).max() < 2


def test_boxes_cover_the_object_but_for_the_hands_tremble(truth: NDArray[np.bool_]) -> None:
    boxes = np.array([asked.box for asked in asked_for(truth) if asked.box is not None])
    tight = tight_box(truth)
    assert tight is not None
    off = np.abs(boxes - tight) / (tight[2] - tight[0])
    assert off.max() <= 0.1
    assert off.max() > 0.08
    assert (off.max(1) < 0.02).mean() > 0.2
    assert np.abs((boxes - tight).mean(0)).max() < 0.5  # in no direction more than in another


def test_large_boxes_are_not_given(disc: Callable) -> None:
    small = [asked.box is not None for asked in asked_for(disc(64, 64, 50), count=100)]
    large = [asked.box is not None for asked in asked_for(disc(64, 64, 60), count=100)]
    assert sum(small) > 20
    assert not any(large)
    assert all(asked.points or asked.previous is not None for asked in asked_for(disc(64, 64, 60)))
    # It is the crop's side that counts.
    tiny = asked_for(disc(32, 32, 30, 64), np.zeros((64, 64), bool), 100)
    assert not any(asked.box is not None for asked in tiny)


def test_earlier_masks_are_worse_ones_of_the_object(truth: NDArray[np.bool_]) -> None:
    half = truth.reshape(64, 2, 64, 2).mean((1, 3)) > 0.5
    overlaps, moved = [], []
    for asked in asked_for(truth, count=1500):
        if asked.previous is None:
            continue
        assert asked.previous.shape == (64, 64)
        assert asked.previous.dtype == np.float32
        assert asked.previous.min() >= 0
        assert asked.previous.max() <= 1
        shown = asked.previous > 0.5
        overlaps.append((shown & half).sum() / (shown | half).sum())
        moved.append(np.argwhere(shown).mean(0) - np.argwhere(half).mean(0))
    assert len(overlaps) > 40
    assert 0.5 < np.median(overlaps) < 0.95
    assert min(overlaps) > 0.2
    assert np.std(overlaps) > 0.05
    assert (np.std(moved, 0) > 1).all()
    assert (np.abs(np.mean(moved, 0)) < 0.8).all()


def test_an_earlier_mask_does_not_come_in_on_the_other_side(disc: Callable) -> None:
    for asked in asked_for(disc(0, 64, 40), count=800):
        if asked.previous is not None:
            assert not asked.previous[:, 40:].any()


def test_only_one_click_alone_is_ambiguous(truth: NDArray[np.bool_]) -> None:
    for asked in asked_for(truth):
        assert asked.ambiguous is (kind_of(asked) == "click")


def test_how_many_corrections_are_to_follow(truth: NDArray[np.bool_]) -> None:
    found = Counter(asked.corrections for asked in asked_for(truth))
    assert set(found) == set(range(CORRECTIONS + 1))
    counts = [found[number] for number in range(CORRECTIONS + 1)]
    assert counts == sorted(counts, reverse=True)


def test_now_and_then_a_click_on_glass(truth: NDArray[np.bool_]) -> None:
    glass = np.zeros((SIDE, SIDE), bool)
    glass[:, 100:] = True
    on_glass = [asked for asked in asked_for(truth, glass) if not asked.truth.any()]
    assert 0.03 < len(on_glass) / 600 < 0.14
    for asked in on_glass:
        assert kind_of(asked) == "click"
        assert asked.labels == [1]
        assert asked.corrections == 0
        assert holds(glass, asked.points[0])
    glass[:, 102:] = False  # a strip that is not worth it
    assert all(asked.truth.any() for asked in asked_for(truth, glass, 200))


def test_where_there_is_no_object_glass_is_clicked() -> None:
    nothing = np.zeros((SIDE, SIDE), bool)
    glass = nothing.copy()
    glass[3, 7] = True
    for asked in asked_for(nothing, glass, 20):
        assert kind_of(asked) == "click"
        assert holds(glass, asked.points[0])
        assert not asked.truth.any()
        assert asked.corrections == 0
    assert len({asked.points[0] for asked in asked_for(nothing, ~nothing, 20)}) > 10


@given(
    arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), fill=st.booleans()).filter(
        np.any
    ),
    st.integers(0, 999),
)
def test_an_inner_point_is_inside(mask: np.ndarray, seed: int) -> None:
    assert holds(mask, inner_point(mask, np.random.default_rng(seed)))


def test_corrections_have_the_right_sign(truth: NDArray[np.bool_], disc: Callable) -> None:
    too_small, too_large = disc(50, 70, 12), disc(50, 70, 33)
    for rng in (None, *map(np.random.default_rng, range(20))):
        asked = Asked(truth, [(50.0, 70.0)], [1])
        assert correct(asked, too_small, rng)
        assert correct(asked, too_large, rng)
        assert asked.labels == [1, 1, 0]
        assert holds(truth & ~too_small, asked.points[1])
        assert holds(too_large & ~truth, asked.points[2])


def test_a_correction_without_chance_is_at_the_errors_deepest_point(
    truth: NDArray[np.bool_], disc: Callable
) -> None:
    shown = truth | disc(100, 30, 11)
    asked = Asked(truth, [(50.0, 70.0)], [1])
    assert correct(asked, shown)
    assert asked.points[1] == deepest_point(disc(100, 30, 11))
    assert asked.labels == [1, 0]
    places = set()
    for seed in range(20):
        again = Asked(truth)
        correct(again, shown, np.random.default_rng(seed))
        places.add(again.points[0])
    assert len(places) > 10


def test_what_is_right_is_not_corrected(truth: NDArray[np.bool_]) -> None:
    asked = Asked(truth, [(50.0, 70.0)], [1])
    assert not correct(asked, truth)
    assert not correct(asked, truth, np.random.default_rng(0))
    assert (asked.points, asked.labels) == ([(50.0, 70.0)], [1])


def test_prompts_as_tensors(truth: NDArray[np.bool_]) -> None:
    earlier = np.full((64, 64), 0.25, np.float32)
    asked = [
        Asked(truth, [(3.0, 4.0), (5.5, 6.0), (7.0, 8.0)], [1, 0, 1]),
        Asked(truth, box=np.array([1.0, 2, 30, 40])),
        Asked(truth, [(9.0, 10.0)], [0], previous=earlier),
    ]
    batch = batch_of(asked)
    assert batch.points.shape == (3, 3, 2)
    assert batch.labels.tolist() == [[1, 0, 1], [-1, -1, -1], [0, -1, -1]]
    assert batch.points[0].tolist() == [[3, 4], [5.5, 6], [7, 8]]
    assert batch.points[2, 0].tolist() == [9, 10]
    assert batch.boxes[1].tolist() == [1, 2, 30, 40]
    assert batch.boxes[[0, 2]].isnan().all()
    assert batch.previous.shape == (3, 1, 64, 64)
    assert (batch.previous[2] == 0.25).all()
    assert batch.previous[:2].isnan().all()
    maps = draw(batch)
    assert maps.shape[-2:] == (64, 64)
    assert not maps.isnan().any()


def test_a_batch_without_any_click_and_of_small_crops() -> None:
    small = np.zeros((64, 64), bool)
    batch = batch_of([Asked(small, box=np.array([1.0, 2, 30, 40]))])
    assert batch.labels.tolist() == [[-1]]
    assert batch.previous.shape == (1, 1, 32, 32)
