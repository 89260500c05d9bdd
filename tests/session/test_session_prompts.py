"""Prompts: grouped, fitted to slide and model, turned into a decoder's form, undone and redone."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.models.cards import ModelCard
from napari_histosam.records import Prompt
from napari_histosam.session.fitting import check_taken, fitted
from napari_histosam.session.prompt_set import PromptSet
from napari_histosam.session.prompts import SCRIBBLE_POINTS, bounds_of, to_window

ALL = ModelCard("m", "m", "m", "none", ("point", "negative", "box", "scribble", "mask"))
BOXES = ModelCard("boxes", "m", "m", "none", ("box",))
SIZE = (1000, 800)


def prompt(geometry, role="positive", name="1"):
    return Prompt(geometry, role, name)


def test_window_px_of_each_kind():
    window = Window(100, 100, (2.0, 2.0), (64, 64))  # 36..164
    asked = to_window(
        [
            prompt(shapely.Point(100, 100)),
            prompt(shapely.box(80, 90, 120, 130), "box"),
            prompt(shapely.Point(50, 60), "negative"),
            prompt(shapely.box(96, 96, 104, 104), "mask"),
        ],
        window,
    )
    assert asked.points.tolist() == [[32, 32], [7, 12]]
    assert asked.labels.tolist() == [1, 0]
    assert asked.box.tolist() == [22, 27, 42, 47]
    assert asked.mask.sum() == 16
    assert asked.mask[30:34, 30:34].all()


def test_of_several_boxes_the_last_counts_and_masks_are_united():
    window = Window(32, 32, (1.0, 1.0), (64, 64))
    asked = to_window(
        [
            prompt(shapely.box(0, 0, 10, 10), "box"),
            prompt(shapely.box(5, 5, 20, 20), "box"),
            prompt(shapely.box(0, 0, 2, 2), "mask"),
            prompt(shapely.box(4, 4, 6, 6), "mask"),
        ],
        window,
    )
    assert asked.box.tolist() == [5, 5, 20, 20]
    assert asked.mask.sum() == 8
    assert asked.points is None


@given(st.integers(2, 40), st.floats(1, 500))
def test_a_scribble_becomes_a_few_clicks_along_it(count, length):
    xs = np.linspace(0, length, count)
    line = shapely.LineString(np.stack([xs, np.full(count, 7.0)], 1))
    asked = to_window([prompt(line)], Window(0, 0, (1.0, 1.0), (64, 64)))
    assert 2 <= len(asked.points) <= SCRIBBLE_POINTS
    assert (asked.labels == 1).all()
    back = asked.points - 32
    assert back[0] == pytest.approx([0, 7])
    assert back[-1] == pytest.approx([length, 7])


def test_bounds_of_all_prompts():
    both = [prompt(shapely.Point(5, 50)), prompt(shapely.box(10, 0, 20, 9), "box")]
    assert bounds_of(both) == (5, 0, 20, 50)


@pytest.mark.parametrize(
    ("geometry", "role", "want"),
    [
        (shapely.Point(-1, 5), "positive", None),
        (shapely.Point(5, 900), "negative", None),
        (shapely.Point(1000, 800), "positive", shapely.Point(1000, 800)),
        (shapely.box(-50, -50, 20, 30), "box", shapely.box(0, 0, 20, 30)),
        (shapely.box(990, 790, 1200, 900), "box", shapely.box(990, 790, 1000, 800)),
        (shapely.box(-50, -50, -20, -30), "box", None),
        (shapely.box(-50, 10, 0, 20), "box", None),  # touches the edge only
        (shapely.box(900, 700, 1100, 900), "mask", shapely.box(900, 700, 1000, 800)),
        (
            shapely.LineString([(10, 10), (20, 20), (20, -5)]),
            "positive",
            shapely.LineString([(10, 10), (20, 20)]),
        ),
        (shapely.LineString([(-10, 10), (20, 20)]), "negative", shapely.Point(20, 20)),
        (shapely.LineString([(-10, 10), (-20, 20)]), "positive", None),
    ],
)
def test_prompts_are_clipped_to_the_slide_or_refused(geometry, role, want):
    if want is None:
        with pytest.raises(InputError, match="lies outside the slide of 1,000 x 800 px"):
            fitted([prompt(geometry, role)], SIZE, ALL)
    else:
        (one,) = fitted([prompt(geometry, role)], SIZE, ALL)
        assert one.geometry.equals(want)
        assert one.role == role


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_coordinates_that_are_no_numbers_are_refused(bad):
    with pytest.raises(InputError, match="no number"):
        fitted([prompt(shapely.Point(bad, 5))], SIZE, ALL)


def test_a_box_without_area_is_refused():
    with pytest.raises(InputError, match="box has no area"):
        fitted([prompt(shapely.box(5, 5, 5, 9), "box")], SIZE, ALL)


def test_messages_name_the_object_where_there_are_many():
    with pytest.raises(InputError, match="click of object 7 lies outside"):
        fitted([prompt(shapely.Point(-1, 5), name="7")], SIZE, ALL, named=True)


def test_kinds_that_a_model_does_not_take_are_refused():
    for one in (
        prompt(shapely.Point(5, 5)),
        prompt(shapely.Point(5, 5), "negative"),
        prompt(shapely.LineString([(1, 1), (2, 2)])),
        prompt(shapely.box(1, 1, 2, 2), "mask"),
    ):
        with pytest.raises(InputError, match=r"boxes takes no .* it takes box"):
            check_taken([one], BOXES)
    check_taken([prompt(shapely.box(1, 1, 2, 2), "box")], BOXES)


def test_steps_go_back_and_forth():
    prompts, one, two = PromptSet(), prompt(shapely.Point(1, 1)), prompt(shapely.Point(2, 2))
    prompts.add([one])
    prompts.add([two])
    assert prompts.undo().prompts == (one,)
    assert prompts.undo().prompts == ()
    assert prompts.undo() is None
    assert prompts.can_redo
    assert prompts.redo().prompts == (one,)
    prompts.add([two])
    assert not prompts.can_redo
    assert prompts.all() == (one, two)
    prompts.clear()
    assert prompts.undo() is None
    assert len(prompts) == 0


def test_a_step_brings_back_what_was_shown():
    prompts = PromptSet()
    prompts.add([prompt(shapely.Point(1, 1))])
    prompts.note_correction("the model's mask")
    assert prompts.undo("the corrected mask").shown == "the model's mask"
    assert prompts.redo("the model's mask").shown == "the corrected mask"


def test_the_next_object_gets_a_number_that_is_free():
    prompts = PromptSet()
    assert prompts.next_object() == "1"  # nothing was given to the first yet
    prompts.add([prompt(shapely.Point(1, 1), name=name) for name in ("1", "2", "4")])
    assert prompts.next_object() == "3"
    assert list(prompts.by_object()) == ["1", "2", "4"]


def test_objects_with_negative_prompts_only_are_not_asked_about():
    prompts = PromptSet()
    prompts.add([prompt(shapely.Point(1, 1), "negative"), prompt(shapely.Point(2, 2), name="2")])
    assert list(prompts.answerable()) == ["2"]
