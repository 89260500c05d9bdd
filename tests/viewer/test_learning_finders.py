"""Trainings of models that find objects by themselves, begun as the Learn tab begins them."""

from __future__ import annotations

import json

import pytest
import shapely

from napari_histosam.models import ModelRegistry
from napari_histosam.models.beginning import begin
from napari_histosam.records import SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import open_store_for
from napari_histosam.viewer.learning.bases import FINDING, bases
from napari_histosam.viewer.learning.course import Course
from napari_histosam.viewer.learning.measuring import costs_of
from napari_histosam.viewer.learning.result import card_lines, read_result


def identity_of(path):
    with open_slide(path) as slide:
        return slide.identity, slide.name


def test_the_result_of_a_model_without_prompts_is_told_in_its_own_figures(tmp_path):
    figure = {"before": 0.25, "after": 0.5, "gain": 0.25, "low": 0.1, "high": 0.4}
    found = {
        "verdict": "better",
        "decided_by": "ap50",
        "n_objects": 12,
        "n_groups": 2,
        "figures": {"ap50": figure, "iou": figure},
    }
    said = {"name": "pupil", "base": "des-sam-x", "verdict": "better", "comparison": found}
    (tmp_path / "result.json").write_text(json.dumps(said), "utf-8")
    result = read_result(Course(tmp_path))
    assert [one.title for one in result.figures] == ["Found at IoU 0.5 (AP50)", "Mean IoU"]
    assert result.heading == "Without prompts"
    assert "12 objects of 2 slides held out: AP50 0.250 → 0.500" in result.words
    same = {"before": 0.25, "after": 0.25, "gain": 0.0, "low": 0.0, "high": 0.0}
    found |= {"verdict": "same", "figures": {"ap50": same, "iou": same}}
    (tmp_path / "result.json").write_text(json.dumps({**said, "best_epoch": 0}), "utf-8")
    assert "so the new model is the same" in read_result(Course(tmp_path)).words


def test_outlined_areas_on_two_slides_teach_a_model_of_areas(bench, make_nucleus):
    registry = ModelRegistry()
    begin(registry, "sam", "histosam-small", "own-sam")
    begin(registry, "sam-lung", "own-sam", "own-lung")
    (base,) = (one for one in bases(ModelRegistry()) if one.card.name == "own-lung")
    assert base.methods == ("decoder",)
    slides = []
    for name, seed in (("a.png", 1), ("b.png", 2)):
        spots = ((80, 90), (180, 170)) if seed == 1 else ((170, 80), (90, 190))
        made = [make_nucleus(x, y, 40) for x, y in spots]
        slides.append(bench.slide(name, made, seed))
        with open_store_for(slides[-1], *identity_of(slides[-1])) as store:
            store.add([SlideObject(shapely.box(0, 0, 256, 256), "Region*")])
    order = {"model": "own-lung", "epochs": 6, "name": "taught", "data": "areas"}
    course = bench.begin(*slides, **order)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "finished", shown.message
    assert shown.epochs[-1]["val_dice_all"] > shown.epochs[0]["val_dice_all"]
    result = read_result(course)
    assert result.counted == "images"
    assert result.figures[0].after > result.figures[0].before
    card = ModelRegistry().get("taught")
    assert card.finds == "regions"
    assert "On 1 image held out: Dice" in " ".join(card_lines(card))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_boxes_on_two_slides_teach_a_finder(bench):
    bench.patience = 1500.0
    registry = ModelRegistry()
    begin(registry, "sam", "histosam-small", "own-sam")
    begin(registry, "des-sam", "own-sam", "own-des")
    (base,) = (one for one in bases(ModelRegistry()) if one.card.name == "own-des")
    assert base.methods == tuple(FINDING)
    costs = costs_of(ModelRegistry(), "own-des", "boxes", 1, lambda: None)
    assert costs.learn > 0
    assert costs.encode > 0
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    order = {"model": "own-des", "method": "boxes", "epochs": 1, "name": "taught", "threads": 1}
    course = bench.begin(*slides, **order)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state in ("finished", "failed"), shown.message
    assert "val_ap50" in shown.epochs[0]
    if shown.state == "failed":
        # One step from random weights may find nothing more than before: that is said.
        assert "no epoch was better" in shown.message
        return
    result = read_result(course)
    assert result.heading == "Without prompts"
    assert "Trained from own-des" in card_lines(ModelRegistry().get(result.name))[0]
