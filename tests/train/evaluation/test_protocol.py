"""The protocol: who is asked what, and what is noted of the answers."""

from __future__ import annotations

import numpy as np
import pytest

from napari_histosam.train.evaluation.protocol import (
    JITTER,
    SMALLEST_PX,
    box_again,
    contours,
    ellipse_in,
    iou,
    outcomes,
)
from napari_histosam.train.simulate import deepest_point, tight_box

# Rectangles: left, top, right, bottom. All lie inside the image of 120 x 90 px.
RECTANGLES = [(10, 10, 30, 20), (40, 15, 60, 45), (70, 50, 100, 70)]


def labelled(rectangles, height=90, width=120):
    labels = np.zeros((height, width), np.int32)
    for number, (left, top, right, bottom) in enumerate(rectangles, 1):
        labels[top:bottom, left:right] = number
    return labels


def the_truth(mask, clicks):
    return [mask], [1.0]


def nothing(mask, clicks):
    return [np.zeros_like(mask)], [0.25]


def everything(mask, clicks):
    return [np.ones_like(mask)], [0.5]


def shifted(mask, clicks):
    return [np.roll(mask, 5, 1)], [0.9]


@pytest.fixture
def labels():
    return labelled(RECTANGLES)


@pytest.fixture
def run(helpers):
    """Ask a fake for all objects; return outcomes and the fake."""

    def ask(labels, see, seed=3, name="dsb_1", **more):
        fake = helpers.fake(labels, see)
        return list(outcomes(helpers.entry(name), labels, fake, seed=seed, **more)), fake

    return ask


def test_a_model_that_is_right(run, labels):
    found, fake = run(labels, the_truth)
    assert [one.number for one in found] == [1, 2, 3]
    assert [one.area for one in found] == [200, 600, 600]
    for one in found:
        assert one.clicks == (1.0, 1.0, 1.0)
        assert (one.random, one.box, one.offered) == (1.0, 1.0, (1.0,))
        assert (one.click_score, one.box_score) == (1.0, 1.0)
        assert one.followed == ()
        assert one.entry.name == "dsb_1"
        assert not one.cut
    # One click, another somewhere, a box: nothing needs mending, and each starts afresh.
    kinds = [kind for kind, _ in fake.heard]
    assert kinds == ["clicks", "forget", "clicks", "forget", "box", "forget"] * 3


def test_a_model_that_answers_nothing(run, labels):
    found, fake = run(labels, nothing)
    for one in found:
        assert one.clicks == (0.0, 0.0, 0.0)
        assert (one.random, one.box, one.offered) == (0.0, 0.0, (0.0,))
        assert (one.click_score, one.box_score) == (0.25, 0.25)
        assert one.followed == ((True, False), (True, False))
    asked = [clicks for kind, clicks in fake.heard if kind == "clicks"]
    assert [len(clicks) for clicks in asked] == [1, 2, 3, 1] * 3
    # Clicks come one by one: the earlier ones stay as they were.
    for first, second, third, _ in zip(*[iter(asked)] * 4, strict=True):
        assert third[:2] == second
        assert second[:1] == first
        assert first[0][:2] == deepest_point(labels == labels[int(first[0].y), int(first[0].x)])


def test_a_model_that_answers_everything(run, labels):
    found, fake = run(labels, everything)
    for one in found:
        share = one.area / labels.size
        assert one.clicks == pytest.approx((share, share, share))
        assert one.box == pytest.approx(share)
        assert one.followed == ((False, False), (False, False))
    for kind, clicks in fake.heard:
        if kind == "clicks":
            number = labels[int(clicks[0].y), int(clicks[0].x)]
            assert all(labels[int(c.y), int(c.x)] != number for c in clicks[1:])
            assert not any(c.positive for c in clicks[1:])


def test_figures_of_a_shifted_mask(run):
    # 20 x 10 px, moved by 5 px: 15 x 10 in common, 25 x 10 in all.
    found, _ = run(labelled([(10, 10, 30, 20)]), shifted)
    (one,) = found
    assert one.clicks == pytest.approx((0.6, 0.6, 0.6))
    assert (one.random, one.box) == pytest.approx((0.6, 0.6))
    assert one.offered == pytest.approx((0.6,))
    assert one.followed == ((True, False), (True, False))


def test_followed_clicks_and_what_they_mend(run, labels):
    def see(mask, clicks):
        seen = [mask, np.zeros_like(mask), np.ones_like(mask)]
        if len(clicks) == 1:  # two offers: the second one is right
            return [seen[1], seen[0]], [0.3, 0.2]
        return [seen[2] if len(clicks) == 2 else seen[0]], [0.5]

    found, _ = run(labels, see)
    for one in found:
        assert one.clicks == pytest.approx((0.0, one.area / labels.size, 1.0))
        assert one.offered == (0.0, 1.0)
        assert one.click_score == 0.3
        # First something was missing and is inside now; then something was too much and is gone.
        assert one.followed == ((True, True), (False, True))
        assert one.random == 0.0


def test_times_are_those_of_all_calls(run, labels):
    found, _ = run(labels, nothing)
    assert [one.encode_ms for one in found] == [(7.0,), (), ()]
    assert all(one.decode_ms == (2.0,) * 5 for one in found)
    found, _ = run(labels, the_truth)
    assert all(one.decode_ms == (2.0,) * 3 for one in found)


def prompts_of(fake):
    """What does not depend on answers: first clicks, clicks anywhere, boxes."""
    firsts = [what for kind, what in fake.heard if kind == "box"]
    return firsts + [what for kind, what in fake.heard if kind == "clicks" and len(what) == 1]


def test_every_model_gets_the_same_prompts(run, labels):
    wanted = prompts_of(run(labels, the_truth)[1])
    assert len(wanted) == 9
    for see in (nothing, everything, shifted):
        assert prompts_of(run(labels, see)[1]) == wanted
    assert prompts_of(run(labels, the_truth, seed=4)[1]) != wanted
    assert prompts_of(run(labels, the_truth, name="dsb_2")[1]) != wanted


def test_the_random_click_lies_anywhere_inside(run, labels):
    places = set()
    for seed in range(20):
        _, fake = run(labels, the_truth, seed=seed)
        clicks = [what for kind, what in fake.heard if kind == "clicks"]
        for number, (click,) in enumerate(clicks[1::2], 1):
            assert click.positive
            assert labels[int(click.y), int(click.x)] == number
        places.add(clicks[1][0])
    assert len(places) > 15


def test_jitter_stays_within_five_percent(run, labels):
    most = np.zeros(4)
    for seed in range(40):
        for one in run(labels, the_truth, seed=seed)[0]:
            tight = tight_box(labels == one.number)
            size = np.tile(tight[2:] - tight[:2], 2)
            assert np.array_equal(box_again(one), one.prompted_box)
            most = np.maximum(most, np.abs(box_again(one) - tight) / size)
    assert (most <= JITTER).all()
    assert JITTER == 0.05
    assert (most > 0.045).all()


def test_objects_that_the_border_cuts_are_told_apart(run):
    rectangles = [
        (0, 20, 15, 35),
        (30, 0, 45, 15),
        (105, 20, 120, 35),
        (30, 75, 45, 90),
        (60, 1, 75, 16),
        (1, 50, 16, 89),
    ]
    found, _ = run(labelled(rectangles), the_truth)
    assert [one.cut for one in found] == [True, True, True, True, False, False]


def test_marks_are_left_out(run):
    assert SMALLEST_PX == 30
    found, _ = run(labelled([(5, 5, 10, 11), (20, 5, 49, 6), (60, 5, 90, 6)]), the_truth)
    assert [(one.number, one.area) for one in found] == [(1, 30), (3, 30)]
    assert run(labelled([]), the_truth)[0] == []


def test_so_many_objects_at_most(run):
    labels = labelled([(10 * i, 10, 10 * i + 8, 20) for i in range(10)])

    def drawn(seed, see=the_truth):
        return [one.number for one in run(labels, see, seed=seed, most=4)[0]]

    assert len(drawn(1)) == 4
    assert drawn(1) == sorted(drawn(1, nothing))
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 4
    assert len(run(labels, the_truth, most=10)[0]) == 10


def test_it_can_be_stopped_before_each_object(run, labels, helpers):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    fake = helpers.fake(labels, the_truth)
    with pytest.raises(InterruptedError):
        list(outcomes(helpers.entry(), labels, fake, seed=0, stop=stop))
    assert [kind for kind, _ in fake.heard].count("box") == 2


def test_overlap_of_masks():
    a = np.zeros((4, 4), bool)
    assert iou(a, a) == 0
    b = a.copy()
    b[:2] = True
    a[1:3] = True
    assert iou(a, b) == pytest.approx(4 / 12)
    assert iou(b, b) == 1


def test_an_ellipse_in_a_box():
    mask = ellipse_in(np.array([3.0, 2, 7, 6]), (10, 12))
    # Of 4 x 4 px the four corners lie outside.
    assert mask.sum() == 12
    assert tight_box(mask).tolist() == [3, 2, 7, 6]
    assert not mask[2, 3]
    large = ellipse_in(np.array([10.0, 20, 90, 60]), (100, 100))
    assert large.sum() == pytest.approx(np.pi * 40 * 20, rel=0.01)
    assert tight_box(large).tolist() == [10, 20, 90, 60]


def test_the_ellipse_is_that_of_the_prompted_box(run, labels):
    for one in run(labels, the_truth)[0]:
        wanted = iou(labels == one.number, ellipse_in(box_again(one), labels.shape))
        assert one.ellipse == wanted
        assert one.ellipse == pytest.approx(np.pi / 4, abs=0.12)


def test_outlines_for_pictures():
    mask = np.zeros((20, 30), bool)
    assert contours(mask) == []
    mask[5:10, 8:20] = True
    mask[7, 12] = False
    outlines = contours(mask)
    assert len(outlines) == 2  # the outer one and the hole's
    outer = max(outlines, key=len)
    assert outer.min((0, 1)).tolist() == [8, 5]
    assert outer.max((0, 1)).tolist() == [19, 9]
