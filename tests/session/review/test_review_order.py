"""The order of review: what comes first, why, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_histosam.session.review.candidates import Candidates
from napari_histosam.session.review.doubts import first_mask, low_score, odd_shape, odd_size
from napari_histosam.session.review.queue import Doubt, ReviewQueue, in_turn, places
from napari_histosam.session.review.unusual import deviations, distances


def row(number, class_name="Gland", source="automatic", score=None, area=100.0, review=None):
    return (number, f"o{number}", class_name, source, score, area, 0, 0, 9, 9, review, "annotation")


def queue_of(rows, agreement=None) -> ReviewQueue:
    of = Candidates.of(rows)
    doubts = [low_score(of), odd_size(of)]
    if agreement is not None:
        doubts.append(first_mask(agreement))
    return ReviewQueue(of, doubts)


objects = st.lists(
    st.tuples(
        st.sampled_from(["Gland", "Tumor", None]),
        st.one_of(st.none(), st.floats(0, 1, width=16)),
        st.floats(1, 1e6),
    ),
    min_size=1,
    max_size=40,
)


@given(objects, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_does_not_depend_on_the_order_of_reading(found, random) -> None:
    rows = [row(i, name, score=score, area=area) for i, (name, score, area) in enumerate(found)]
    mixed = list(rows)
    random.shuffle(mixed)
    assert queue_of(mixed).ids == queue_of(rows).ids
    assert sorted(queue_of(rows).ids) == sorted(r[1] for r in rows)


@given(objects, st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_outliers_of_size_do_not_depend_on_the_unit(found, factor) -> None:
    rows = [row(i, name, area=area) for i, (name, _, area) in enumerate(found)]
    other = [(*r[:5], r[5] * factor, *r[6:]) for r in rows]
    ones, twos = odd_size(Candidates.of(rows)), odd_size(Candidates.of(other))
    # Only those at the very limit may differ, by rounding.
    near = np.isnan(ones.values) != np.isnan(twos.values)
    assert np.allclose(np.where(near, 3, ones.values), np.where(near, 3, twos.values), rtol=1e-6,
                       equal_nan=True)  # fmt: skip
    assert np.allclose(np.fmax(ones.values, twos.values)[near], 3, rtol=1e-6)


@given(st.lists(st.lists(st.one_of(st.just(np.nan), st.integers(0, 5)), min_size=3, max_size=3),
                min_size=1, max_size=12))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_first_of_every_list_is_among_the_first(columns) -> None:
    values = np.array(columns, float)
    doubts = [Doubt(str(i), values[:, i], lambda _: "") for i in range(3)]
    where = places(doubts, len(values))
    order = in_turn(where, np.arange(len(values)))
    best = where.min(axis=1)[order]
    assert (np.diff(best[np.isfinite(best)]) >= 0).all()
    for column in where.T:
        if np.isfinite(column).any():
            assert best[list(order).index(int(column.argmin()))] == 0
    # The order of the lists does not matter either.
    assert (in_turn(where[:, ::-1], np.arange(len(values))) == order).all()


def test_lowest_score_first_and_the_reason_says_so() -> None:
    found = queue_of([row(1, score=0.9), row(2, score=0.41), row(3), row(4, score=0.6)])
    assert found.ids == ["o2", "o4", "o1", "o3"]
    told = [found.entry(int(i)).reason for i in found.order]
    assert told == ["low score 0.41", "low score 0.60", "", ""]
    assert found.entry(int(found.order[3])).score is None


def test_an_outlier_of_size_is_told_against_its_own_class() -> None:
    rows = [row(i, "Tumor", area=100 + i % 5, score=0.9 + i / 1000) for i in range(20)]
    rows += [row(50, "Tumor", area=306.0), row(51, "Tumor", area=25.5)]
    rows += [row(100 + i, "Stroma", area=3000 + i) for i in range(20)]
    found = queue_of(rows)
    told = {found.entry(int(i)).id: found.entry(int(i)).reason for i in found.order[:4]}
    assert told["o50"] == "3.0x larger than most Tumor"
    assert told["o51"] == "4.0x smaller than most Tumor"
    assert set(found.ids[:2]) == {"o0", "o51"}  # the first of both lists
    assert set(found.ids[2:4]) == {"o1", "o50"}  # then the second


def test_few_objects_have_no_usual_size() -> None:
    assert np.isnan(odd_size(Candidates.of([row(i, area=10.0**i) for i in range(7)])).values).all()


def test_ragged_outlines_and_wrong_first_masks_are_reasons() -> None:
    of = Candidates.of([row(i, None) for i in range(12)])
    shape = odd_shape(of, np.array([1.1] * 11 + [4.0]))
    mask = first_mask(np.array([np.nan, 1.0, 0.95, 0.55] + [1.0] * 8))
    found = ReviewQueue(of, [shape, mask])
    assert set(found.ids[:2]) == {"o3", "o11"}
    assert found.reason(3) == "the model's first mask overlaps it by only 55%"
    assert found.reason(11) == "more ragged or elongated than most unclassified objects"


def test_a_few_outliers_do_not_move_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(200, 2))
    wild = np.vstack([plain, np.full((20, 2), 1e6)])
    groups = np.zeros(220, np.int64)
    z, usual = deviations(wild, groups)
    assert np.allclose(usual[0], 0, atol=0.3)
    far = distances(z, groups)
    assert far[200:].min() > 1000
    assert 0.5 < np.median(far[:200]) < 1.5


@given(st.integers(0, 2**31), st.floats(-50, 50), st.floats(0.1, 100))
@settings(max_examples=30, deadline=None)
def test_deviations_do_not_depend_on_zero_and_unit(seed, shift, factor) -> None:
    values = np.random.default_rng(seed).normal(scale=10, size=(30, 2))
    groups = np.arange(30) % 2
    one, _ = deviations(values, groups)
    two, _ = deviations(values * factor + shift, groups)
    assert np.allclose(one, two, rtol=1e-6, atol=1e-6)


def test_the_reference_is_used_where_it_is_large_enough() -> None:
    values = np.concatenate([np.arange(10.0), np.arange(100.0, 130.0)])[:, None]
    groups = np.zeros(40, np.int64)
    trusted = np.arange(40) < 10
    assert deviations(values, groups, trusted)[1][0, 0] == pytest.approx(4.5)
    assert deviations(values, groups, trusted & (np.arange(40) < 5))[1][0, 0] > 100


def test_a_filter_keeps_the_order() -> None:
    rows = [row(1, "Tumor", score=0.9), row(2, score=0.1), row(3, "Tumor", score=0.2)]
    rows.append(row(4, "Tumor", score=0.15, review="accepted"))
    found = queue_of(rows)
    kept = found.keep(lambda name, source, review: name == "Tumor" and review is None)
    assert [found.candidates.ids[i] for i in kept] == ["o3", "o1"]


def test_nothing_at_all() -> None:
    found = queue_of([])
    assert (len(found), found.ids) == (0, [])
    assert len(found.keep(lambda *_: True)) == 0
