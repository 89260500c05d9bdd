"""Figures of a set, from outcomes made by hand."""

from __future__ import annotations

import json

import pytest

from napari_histosam.train.evaluation.figures import row, size_class

PROMISED = (
    "set",
    "model",
    "n_objects",
    "iou_click1",
    "iou_click3",
    "iou_box",
    "encode_ms",
    "decode_ms",
)


def test_means_shares_and_medians(helpers):
    found = [
        helpers.outcome(
            clicks=(0.2, 0.4, 0.9),
            random=0.1,
            box=0.8,
            ellipse=0.7,
            click_score=0.5,
            box_score=0.7,
            offered=(0.2, 0.6),
            followed=((True, True), (False, False)),
            encode_ms=(10.0,),
            decode_ms=(1.0, 2.0),
        ),
        helpers.outcome(
            clicks=(0.6, 0.7, 0.7),
            random=0.5,
            box=0.79,
            ellipse=0.5,
            click_score=0.4,
            box_score=0.89,
            offered=(0.6, 0.605, 0.1),
            followed=((True, False),),
            encode_ms=(),
            decode_ms=(9.0,),
            cut=True,
        ),
        helpers.outcome(
            clicks=(1.0, 1.0, 1.0),
            random=0.9,
            box=1.0,
            ellipse=0.6,
            click_score=1.0,
            box_score=1.0,
            offered=(1.0,),
            followed=((True, True),),
            encode_ms=(30.0, 35.0),
            decode_ms=(4.0,),
        ),
    ]
    made = row("nuclei", "fake", found)
    json.dumps(made, allow_nan=False)
    assert set(PROMISED) <= set(made)
    parts = made.pop("by_source"), made.pop("by_size")
    assert made == {
        "set": "nuclei",
        "model": "fake",
        "n_objects": 3,
        "iou_click1": 0.6,
        "iou_click2": 0.7,
        "iou_click3": 0.8667,
        "iou_click_random": 0.5,
        "iou_box": 0.8633,
        "iou_ellipse": 0.6,
        "iou_click1_best_offered": pytest.approx((0.6 + 0.605 + 1) / 3, abs=1e-4),
        "box_minus_ellipse": pytest.approx((0.1 + 0.29 + 0.4) / 3, abs=1e-4),
        "share_box_good": 0.6667,  # .8 is good, .79 is not
        "first_offered_is_best": 0.5,  # one of the two with several; .605 is no better than .6
        "score_error_click1": pytest.approx((0.3 + 0.2 + 0) / 3, abs=1e-4),
        "score_error_box": pytest.approx((0.1 + 0.1 + 0) / 3, abs=1e-4),
        "negative_clicks_followed": 0.0,
        "positive_clicks_followed": 0.6667,
        "iou_box_uncut": 0.9,
        "iou_box_cut": 0.79,
        "n_cut": 1,
        "encode_ms": 30.0,
        "decode_ms": 3.0,
    }
    main = {key: made[key] for key in ("iou_click1", "iou_click3", "iou_box", "iou_ellipse")}
    assert parts == ({"dsb": {"n_objects": 3, **main}}, {"120 to 500 px": {"n_objects": 3, **main}})


def test_what_did_not_occur_is_none(helpers):
    made = row("nuclei", "fake", [helpers.outcome(cut=True, decode_ms=())])
    for key in (
        "first_offered_is_best",
        "negative_clicks_followed",
        "positive_clicks_followed",
        "iou_box_uncut",
        "encode_ms",
        "decode_ms",
    ):
        assert made[key] is None
    assert made["iou_box_cut"] == 0.8
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(
    ("offered", "share"),
    [
        ([(0.5, 0.4)], 1.0),
        ([(0.4, 0.5)], 0.0),
        ([(0.495, 0.5, 0.2)], 1.0),  # as good as the best
        ([(0.485, 0.5)], 0.0),
        ([(0.4, 0.5), (0.7, 0.1, 0.2), (0.9, 0.9), (1.0,)], 0.6667),
        ([(0.3,)], None),
    ],
)
def test_whether_the_first_offered_is_best(helpers, offered, share):
    found = [helpers.outcome(offered=ious) for ious in offered]
    assert row("nuclei", "fake", found)["first_offered_is_best"] == share


def test_by_source_and_by_size_from_small_to_large(helpers):
    found = [
        helpers.outcome(name="tnbc_1", area=50_000, box=0.2),
        helpers.outcome(name="dsb_9", area=119, box=0.4),
        helpers.outcome(name="tnbc_2", area=119, box=0.6),
        helpers.outcome(name="dsb_1", area=700, box=1.0),
    ]
    made = row("nuclei", "fake", found)
    assert {k: (p["n_objects"], p["iou_box"]) for k, p in made["by_source"].items()} == {
        "dsb": (2, 0.7),
        "tnbc": (2, 0.4),
    }
    assert [(k, p["n_objects"], p["iou_box"]) for k, p in made["by_size"].items()] == [
        ("< 120 px", 2, 0.5),
        ("500 to 5,000 px", 1, 1.0),
        (">= 40,000 px", 1, 0.2),
    ]


@pytest.mark.parametrize(
    ("area", "name"),
    [
        (30, "< 120 px"),
        (119, "< 120 px"),
        (120, "120 to 500 px"),
        (499, "120 to 500 px"),
        (500, "500 to 5,000 px"),
        (5_000, "5,000 to 40,000 px"),
        (39_999, "5,000 to 40,000 px"),
        (40_000, ">= 40,000 px"),
        (9_000_000, ">= 40,000 px"),
    ],
)
def test_classes_of_size(area, name):
    assert size_class(area) == name
