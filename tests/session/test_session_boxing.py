"""A model of boxes only is given the box of another model's mask, and the answer says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import shapely.affinity

from napari_histosam import Session
from napari_histosam.errors import InputError
from napari_histosam.models import EmbeddingCache
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.records import Prompt
from napari_histosam.session.batch import segment
from napari_histosam.session.trial import Trial


class BoxOnly:
    """Answers a box with an ellipse in it; of anything else it knows nothing."""

    weights_hash = "hash of boxer"
    device = "cpu"

    def __init__(self, helper: str | None = "seer") -> None:
        self.card = ModelCard(
            "boxer", "boxer", "Boxer", "BSD-3-Clause", ("box",), 256, boxes_by=helper
        )
        self.boxes: list[np.ndarray] = []

    def encode(self, images) -> Embedding:
        return Embedding({"image": images[0]}, images[0].shape[1::-1])

    def decode(self, embedding, objects, *, multimask=True) -> list[Candidates]:
        out = []
        for asked in objects:
            assert asked.points is None
            assert asked.mask is None
            self.boxes.append(asked.box)
            left, top, right, bottom = asked.box
            yy, xx = np.mgrid[: embedding.size[1], : embedding.size[0]] + 0.5
            x, y = (left + right) / 2, (top + bottom) / 2
            inside = ((xx - x) / (right - left)) ** 2 + ((yy - y) / (bottom - top)) ** 2 < 0.25
            out.append(Candidates(inside[None], np.array([0.6]), np.zeros((1, 0, 0), np.float32)))
        return out


@pytest.fixture
def boxer():
    return BoxOnly()


@pytest.fixture
def shelf(shelf, boxer):
    shelf.models["boxer"] = boxer
    return shelf


def click(x, y, name="a", role="positive"):
    return Prompt(shapely.Point(x, y), role, name)


def test_a_click_is_answered_by_the_box_of_the_helpers_mask(slide, seer, shelf, boxer, helpers):
    said = []
    with Session(slide, model="boxer", registry=shelf) as session:
        session.said.connect(said.append)
        x, y = helpers.small[:2]
        session.add_point(x, y)
        shown = session.preview.objects[session.prompts.current]
        assert shown.model == "boxer"
        assert shown.boxed_by == "seer"
        assert shown.box is not None
        assert [p.role for p in shown.prompts] == ["positive"]
        assert said == ["boxer takes boxes only: it was given the box of seer's mask."]
        assert shapely.box(*shown.geometry.bounds).within(shown.box.geometry.buffer(1))
        asked = len(seer.decoded)
        assert asked
        # A second click asks the helper anew, with both.
        session.add_point(*helpers.near[:2])
        assert len(seer.decoded) > asked
        assert len(seer.decoded[-1][0][0].points) == 2
        wide = session.preview.objects[session.prompts.current].box.geometry
        assert wide.contains(shapely.box(290, 295, 365, 305))
        session.accept()
        (one,) = session.store.iterate()
        assert one.provenance.model == "boxer"
        *clicks, used = one.provenance.prompts
        assert [p.role for p in clicks] == ["positive", "positive"]
        assert {p.by for p in clicks} == {None}
        assert (used.role, used.by) == ("box", "seer")
        assert used.geometry.equals(wide)


def test_the_box_that_was_used_goes_with_the_object_everywhere(slide, shelf, helpers, tmp_path):
    """From the store through GeoJSON and a data set to what a model of boxes is asked again."""
    from napari_histosam.exchange.geojson_read import read_geojson
    from napari_histosam.exchange.prompts import read_prompts, write_prompts
    from napari_histosam.train.dataset.instances import _prompts

    with Session(slide, model="boxer", registry=shelf) as session:
        session.add_point(*helpers.small[:2])
        session.accept()
        session.export(tmp_path / "out.geojson")
        (one,) = session.store.iterate()
    made = one.provenance
    (back,) = read_geojson(tmp_path / "out.geojson").objects
    for ours, theirs in zip(made.prompts, back.provenance.prompts, strict=True):
        assert (ours.role, ours.by) == (theirs.role, theirs.by)
        assert ours.geometry.equals_exact(theirs.geometry, 1e-3)
    write_prompts(made.prompts, tmp_path / "prompts.geojson")
    assert [p.by for p in read_prompts(tmp_path / "prompts.geojson")] == [None, "seer"]
    click, used = _prompts(made.prompts, made.window)
    assert "by" not in click
    corners = made.window.from_level0(np.reshape(made.prompts[1].geometry.bounds, (2, 2))).ravel()
    assert used["by"] == "seer"
    np.testing.assert_allclose(used["box"], corners, atol=1e-3)


def test_a_box_goes_straight_to_the_model(slide, seer, shelf, boxer):
    said = []
    with Session(slide, model="boxer", registry=shelf) as session:
        session.said.connect(said.append)
        session.add_box(340, 280, 380, 320)
        shown = session.preview.objects[session.prompts.current]
        assert (shown.box, shown.boxed_by, shown.remark) == (None, "", "")
        assert said == []
        assert seer.decoded == []
        np.testing.assert_allclose(
            shown.window.to_level0(boxer.boxes[0].reshape(2, 2)), [[340, 280], [380, 320]]
        )


def test_one_objects_click_does_not_ask_again_for_another(slide, seer, shelf, boxer, helpers):
    prompts = [click(*helpers.small[:2]), Prompt(shapely.box(340, 280, 380, 320), "box", "b")]
    found = list(segment(slide, boxer, prompts, EmbeddingCache(None), registry=shelf))
    assert len(found) == 2
    assert {o.provenance.model for o in found} == {"boxer"}
    assert len(boxer.boxes) == 2
    assert len(seer.decoded) == 1


def test_where_the_helper_finds_nothing_the_mask_is_empty_and_it_says_why(
    slide, seer, shelf, boxer
):
    said = []
    with Session(slide, model="boxer", registry=shelf) as session:
        session.said.connect(said.append)
        session.add_point(700, 40)  # glass
        (shown,) = session.preview.objects.values()
        assert shown.geometry is None
        assert boxer.boxes == []
        assert len(said) == 1
        assert "drag a box" in said[0]
        with pytest.raises(InputError, match="empty"):
            session.accept()


def test_a_trial_takes_the_same_way(slide, seer, shelf, boxer, helpers):
    trial = Trial(slide, boxer, EmbeddingCache(None), shelf)
    x, y, radius = helpers.small
    answer = trial.ask([(x, y, True)], None)
    assert len(answer.masks) == 1
    assert answer.masks[0][y, x]
    assert answer.masks[0].sum() == pytest.approx(np.pi * radius**2, rel=0.1)
    assert len(seer.decoded) == 1


def test_without_a_helper_clicks_are_refused(slide, shelf):
    shelf.models["boxer"] = BoxOnly(None)
    with Session(slide, model="boxer", registry=shelf) as session:
        with pytest.raises(InputError, match="takes no click"):
            session.add_point(10, 10)


class Finer(BoxOnly):
    """The same, at any resolution, as on a GPU."""

    device = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def decode_finer(self, embedding, objects, finer) -> list[Candidates]:
        self.asked.append(finer)
        size = tuple(finer * side for side in embedding.size)
        large = Embedding({}, size)
        asked = [replace(one, box=finer * np.asarray(one.box)) for one in objects]
        return [replace(one, finer=finer) for one in self.decode(large, asked)]


@pytest.mark.parametrize("scale", [1.0, 2.0, 8.0])
def test_masks_finer_than_the_window_lie_where_they_should(slide, scale):
    from napari_histosam.session.answer import MOST_FINER, Answerer
    from napari_histosam.session.previews import Request

    ellipse = {}
    for model in (BoxOnly(), Finer()):
        answerer = Answerer(slide, model, EmbeddingCache(None))
        prompts = (Prompt(shapely.box(240, 280, 520, 480), "box", "a"),)
        shown = answerer.answer(Request(1, {"a": prompts}, scale)).objects["a"]
        ellipse[type(model)] = shown
        if isinstance(model, Finer):
            level = int(shown.window.scale[0])
            assert model.asked == ([] if level == 1 else [min(level, MOST_FINER)])
            assert shown.candidates.finer == min(level, MOST_FINER)
            mask = shown.candidates.mask(0, shown.window)
            assert mask.shape == tuple(shown.candidates.finer * s for s in shown.window.size[::-1])
    plain, fine = ellipse[BoxOnly].geometry, ellipse[Finer].geometry
    truth = shapely.affinity.scale(shapely.Point(380, 380).buffer(1, 64), 140, 100)

    def iou(found) -> float:
        return found.intersection(truth).area / found.union(truth).area

    assert iou(fine) >= iou(plain) - 1e-9
    assert iou(fine) > 0.985
