"""The figures of instance maps: published values, known cases, and what must always hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.train.evaluation import instances as of


def published() -> tuple[np.ndarray, np.ndarray]:
    """The two maps that the published values are of."""
    draw = np.random.default_rng(21)
    y, x = np.mgrid[:96, :96]
    truth = np.zeros((96, 96), int)
    for i in range(9):
        cy, cx = draw.uniform(8, 88, 2)
        r = draw.uniform(5, 11)
        truth[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = i + 1
    found = np.roll(truth, (2, -1), (0, 1))
    found[found == 3] = 0
    found[80:92, 2:12] = 30
    return truth, found


def test_published_values(shared_dir):
    path = shared_dir / "parity" / "des_sam" / "loss_golden.json"
    if not path.is_file():
        pytest.skip("the published values are not there")
    wanted = json.loads(path.read_text())["metrics"]["values"]
    truth, found = (_parts(m) for m in published())
    both = of.overlaps(truth, found)
    assert of.aji(both) == pytest.approx(wanted["aji"], rel=1e-5)
    assert of.panoptic(both) == pytest.approx((wanted["dq"], wanted["sq"], wanted["pq"]), rel=1e-5)
    assert of.dice(both) == pytest.approx(wanted["F1"], rel=1e-5)
    assert of.object_dice(both) == pytest.approx(wanted["dice"], rel=1e-5)


def test_a_case_worked_out_by_hand():
    truth, found = np.zeros((10, 10), int), np.zeros((10, 10), int)
    truth[0:4, 0:5] = 1  # 20 px
    truth[6:10, 0:5] = 2  # 20 px, missed
    found[0:4, 1:5] = 7  # 16 px, all common
    found[6:8, 7:9] = 9  # 4 px of nothing
    figures = of.image_figures(truth, found, [0.0] * 6 + [0.6, 0.0, 0.9])
    assert (figures.n_objects, figures.n_found) == (2, 2)
    assert figures.aji == pytest.approx(16 / (20 + 20 + 4))
    assert (figures.dq, figures.sq) == pytest.approx((0.5, 0.8))
    assert figures.pq == pytest.approx(0.4)
    assert figures.dice == pytest.approx(2 * 16 / (40 + 20))
    assert figures.hits == ((0.9, False), (0.6, True))
    # Precision 1/2 up to a recall of 1/2: 51 of 101 recalls.
    assert of.average_precision(figures.hits, 2) == pytest.approx(51 * 0.5 / 101)


def test_nothing_where_there_is_nothing_is_right_and_else_wrong():
    none, one = np.zeros((5, 5), int), np.eye(5, dtype=int)
    for truth, found, value in ((none, none, 1.0), (one, none, 0.0), (none, one, 0.0)):
        figures = of.image_figures(truth, found, [0.5])
        assert {figures.aji, figures.pq, figures.dice, figures.object_dice} == {value}
        assert of.average_precision(figures.hits, figures.n_objects) == value


def test_two_answers_to_one_object_count_once():
    truth = np.zeros((4, 12), int)
    truth[:, :10] = 1
    found = np.zeros((4, 12), int)
    found[:, :6], found[:, 6:10] = 1, 2
    figures = of.image_figures(truth, found, [0.5, 0.9])
    assert figures.hits == ((0.9, False), (0.5, True))


@given(st.integers(0, 10_000))
def test_bounds_symmetry_and_the_perfect_answer(seed):
    draw = np.random.default_rng(seed)
    truth, found = (draw.integers(0, 4, (6, 7)).repeat(2, 0).repeat(2, 1) for _ in range(2))
    one, other = of.overlaps(truth, found), of.overlaps(found, truth)
    for figure in (of.aji, of.dice, of.object_dice, lambda o: of.panoptic(o)[2]):
        assert 0 <= figure(one) <= 1
        assert figure(of.overlaps(truth, truth)) == pytest.approx(1)
    for figure in (of.dice, of.object_dice, lambda o: of.panoptic(o)[2]):
        assert figure(one) == pytest.approx(figure(other))
    # Other numbers are the same objects.
    assert of.aji(of.overlaps(truth, found * 3)) == pytest.approx(of.aji(one))


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="maps are"):
        of.overlaps(np.zeros((3, 3), int), np.zeros((3, 4), int))


def _parts(labels: np.ndarray) -> np.ndarray:
    """Number the connected parts of equal value, as the published scores do."""
    from skimage.measure import label

    return label(labels, connectivity=2)
