"""Several models answer the same prompts, side by side; one answer is taken and the rest noted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam import Session
from napari_histosam.errors import InputError
from napari_histosam.session.comparison import outline_iou
from napari_histosam.session.side_by_side import COMPARED

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plump:
    """Makes a model of a seer that answers with its second mask, which is larger."""

    def __init__(self, seer) -> None:
        self.__dict__.update(seer.__dict__)
        self.seer, self.encode = seer, seer.encode

    def decode(self, embedding, objects, *, multimask=True):
        from napari_histosam.models.protocols import Candidates

        found = self.seer.decode(embedding, objects, multimask=True)
        return [Candidates(c.masks[1:2], c.scores[1:2], c.logits[1:2]) for c in found]


@pytest.fixture
def second(helpers):
    return Plump(helpers.seer("plump"))


@pytest.fixture
def boxes_only(helpers):
    return helpers.seer("boxes", prompts=("box",))


@pytest.fixture
def several(slide, seer, second, boxes_only, helpers) -> Iterator[Session]:
    shelf = helpers.shelf(seer, second, boxes_only)
    with Session(slide, model="seer", registry=shelf, author="Ada") as made:
        made.shelf = shelf
        yield made


def test_all_chosen_models_answer(several, helpers) -> None:
    heard = []
    several.comparison_changed.connect(heard.append)
    several.compare(["plump", "boxes"])
    assert several.comparison is None  # nothing has been asked
    several.add_point(*helpers.small[:2])
    found = several.comparison
    assert heard[-1] == found
    assert [one.model for one in found.entrants] == ["seer", "plump", "boxes"]
    own, plump, boxes = found.entrants
    assert own.shown == several.preview.objects["1"]
    assert plump.shown.geometry.area > own.shown.geometry.area
    assert plump.encode_ms > 0
    assert plump.decode_ms > 0
    assert boxes.shown is None
    assert "takes no click" in boxes.trouble
    agreement = found.agreement()
    expected = outline_iou(own.shown.geometry, plump.shown.geometry)
    assert 0.5 < expected < 1
    np.testing.assert_allclose(agreement[:2, :2], [[1, expected], [expected, 1]])
    assert np.isnan(agreement[2]).all()
    # The model at work is asked by its own way only.
    assert len(several.shelf.models["seer"].decoded) == 1


def test_another_answer_is_taken_and_the_rest_is_noted(several, helpers) -> None:
    several.compare(["plump"])
    several.add_point(*helpers.small[:2])
    mine = several.preview.objects["1"]
    theirs = several.comparison.entrant("plump").shown
    several.take("plump")
    assert several.preview.objects["1"] == theirs
    # The comparison still holds both.
    assert several.comparison.entrant("seer").shown == mine
    several.undo()
    assert several.preview.objects["1"] == mine
    several.take("plump")
    (kept,) = several.accept("Gland")
    stored = several.store.get(kept)
    assert stored.provenance.model == "plump"
    assert stored.provenance.weights_hash == "hash of plump"
    assert stored.geometry.equals(theirs.geometry)
    iou = outline_iou(mine.geometry, theirs.geometry)
    assert stored.metadata[COMPARED] == f"seer (score 0.90, IoU {iou:.2f})"
    assert several.comparison is None


def test_a_click_after_a_taken_answer_goes_to_the_model_at_work(several, helpers) -> None:
    several.compare(["plump"])
    several.add_point(*helpers.small[:2])
    several.take("plump")
    several.add_point(*helpers.near[:2])
    assert several.preview.objects["1"].model == "seer"
    assert len(several.comparison.entrants) == 2
    # What a model answered before is a beginning for itself only.
    asked = several.shelf.models["seer"].decoded[-1][0]
    assert asked[0].logits is None
    asked = several.shelf.models["plump"].decoded[-1][0]
    assert asked[0].logits is not None


def test_who_is_asked_can_change_meanwhile(several, helpers) -> None:
    several.add_box(270, 270, 330, 330)
    assert several.comparison is None
    several.compare(["boxes"])
    assert [one.model for one in several.comparison.entrants] == ["seer", "boxes"]
    assert several.comparison.entrant("boxes").shown is not None
    several.compare(["boxes", "plump"])
    assert [one.model for one in several.comparison.entrants] == ["seer", "boxes", "plump"]
    assert len(several.shelf.models["boxes"].decoded) == 1  # it need not answer again
    several.compare(["plump"])
    assert [one.model for one in several.comparison.entrants] == ["seer", "plump"]
    several.compare([])
    assert several.comparison is None
    (kept,) = several.accept()
    assert COMPARED not in several.store.get(kept).metadata


def test_corrections_by_hand_are_shown_beside_the_others(several, helpers) -> None:
    several.compare(["plump"])
    several.add_point(*helpers.small[:2])
    drawn = shapely.box(280, 280, 320, 320)
    several.edit(lambda _: drawn, "Draw")
    assert several.comparison.entrant("seer").shown.geometry.equals(drawn)
    assert len(several.shelf.models["plump"].decoded) == 1


def test_trouble_of_one_is_no_trouble_of_the_others(several, helpers) -> None:
    several.shelf.missing.add("plump")
    heard = helpers.heard(several)
    several.compare(["plump", "boxes"])
    several.add_box(270, 270, 330, 330)
    assert several.comparison.entrant("plump").trouble.startswith("The weights of plump are not")
    assert several.comparison.entrant("boxes").shown is not None
    assert heard.failed == []
    with pytest.raises(InputError, match="plump has not answered"):
        several.take("plump")
    with pytest.raises(InputError, match="No model is called"):
        several.compare(["nobody"])


def test_late_answers_are_dropped(slide, seer, second, helpers, box) -> None:
    shelf = helpers.shelf(seer, second)
    session = Session(slide, model="seer", registry=shelf, dispatcher=box)
    try:
        box.run_until(lambda: session.settled)
        session.compare(["plump"])
        second.seer.gate.clear()
        session.add_point(*helpers.small[:2])
        box.run_until(lambda: session.settled)  # the model at work does not wait
        assert second.seer.entered.wait(10)
        session.add_point(*helpers.near[:2])
        second.seer.gate.set()
        box.run_until(
            lambda: session.settled and session.comparison.entrant("plump").shown is not None
        )
        assert len(session.comparison.entrant("plump").shown.prompts) == 2
        session.reject()
        assert session.comparison is None
    finally:
        second.seer.gate.set()
        session.close()


side = st.integers(1, 40)


@given(side, side, side, side)
def test_iou_of_outlines(x: int, w: int, y: int, h: int) -> None:
    one, other = shapely.box(0, 0, 20, 20), shapely.box(x, y, x + w, y + h)
    common = max(0, min(20, x + w) - x) * max(0, min(20, y + h) - y)
    expected = common / (400 + w * h - common)
    assert outline_iou(one, other) == pytest.approx(expected)
    assert outline_iou(other, one) == pytest.approx(expected)
    assert outline_iou(one, one) == 1
    assert outline_iou(one, None) == 0
