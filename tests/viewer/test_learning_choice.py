"""The chosen model and the way back; what can be trained, and under which name."""

from __future__ import annotations

import json

import pytest

from napari_histosam.errors import InputError
from napari_histosam.home import home, shipped
from napari_histosam.models import ModelRegistry
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.viewer.learning.bases import Base, bases
from napari_histosam.viewer.learning.choice import Choice
from napari_histosam.viewer.learning.order import Order, data_name, model_name
from napari_histosam.viewer.learning.result import card_lines


@pytest.fixture
def add_model():
    def add(name: str, **changes) -> None:
        card = json.loads((shipped("weights") / "classical.json").read_text("utf-8"))
        folder = home() / "weights"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**card, "name": name, **changes})
        (folder / f"{name}.json").write_text(text, "utf-8")

    return add


def trained(base: str) -> dict:
    figure = {"before": 0.71, "after": 0.8, "gain": 0.09}
    return {
        "base": base, "base_hash": "sha256:0", "method": "decoder", "data": "liver",
        "data_hash": "sha256:1", "seed": 0, "date": "2026-11-25T10:00:00+00:00",
        "verdict": "better", "figures": {"n_objects": 23, "iou_click1": figure},
    }  # fmt: skip


def test_chosen_kept_and_gone_back(add_model):
    add_model("first")
    add_model("second")
    choice = Choice(ModelRegistry())
    assert (choice.model, choice.earlier) == (DEFAULT_MODEL, None)
    with pytest.raises(InputError, match="nothing to go back to"):
        choice.go_back()
    choice.use("first")
    choice.use("second")
    choice.use("second")
    again = Choice(ModelRegistry())
    assert (again.model, again.earlier) == ("second", "first")
    assert again.go_back() == "first"
    assert again.go_back() == DEFAULT_MODEL
    assert (again.model, again.earlier) == (DEFAULT_MODEL, None)


def test_a_model_that_is_gone_is_passed_over(add_model):
    add_model("first")
    add_model("second")
    choice = Choice(ModelRegistry())
    choice.use("first")
    choice.use("second")
    (home() / "weights" / "second.json").unlink()
    assert choice.model == DEFAULT_MODEL
    assert choice.earlier == "first"
    with pytest.raises(InputError, match="not ready"):
        choice.use("second")


@pytest.mark.parametrize("text", ["", "[]", '{"chosen": 3}', '{"chosen": [3, null]}'])
def test_a_damaged_choice_is_none(text):
    (home() / "chosen_model.json").write_text(text)
    assert Choice(ModelRegistry()).model == DEFAULT_MODEL


def test_names_are_free_and_do_not_grow(add_model):
    registry = ModelRegistry()
    data = data_name(["Liver case 7 (re-cut).svs", "b.svs", "c.svs"])
    assert data == "liver-case-7-re-cut-and-2-more"
    first = model_name(registry, DEFAULT_MODEL, data)
    assert first == f"{DEFAULT_MODEL}-{data}"
    add_model(first, trained=trained(DEFAULT_MODEL))
    assert model_name(registry, first, data) == f"{first}-2"
    assert model_name(registry, first, data, [f"{first}-2"]) == f"{first}-3"


def test_the_card_of_a_trained_model_in_lines(add_model):
    add_model("pupil", trained=trained(DEFAULT_MODEL))
    registry = ModelRegistry()
    assert card_lines(registry.get(DEFAULT_MODEL)) == []
    lines = card_lines(registry.get("pupil"))
    assert lines == [
        "Trained from histosam-small (decoder) on 2026-11-25, data: liver",
        "IoU on 23 objects held out: 1 click 0.71 → 0.80",
        "Verdict: better than its base",
    ]


def test_only_models_that_are_here_and_can_learn_are_bases():
    found = {one.card.name: one.methods for one in bases(ModelRegistry())}
    assert found[DEFAULT_MODEL] == ("decoder", "full")
    assert "classical" not in found
    assert not any(name.startswith("sam") for name in found)


def test_an_order_is_written_and_read(tmp_path):
    made = Order((tmp_path / "a.svs",), ("a.svs",), 3, "m", "decoder", 5, "a", "m-a", 2)
    assert Order.read(json.loads(json.dumps(made.record()))) == made
    assert made.about == "m · decoder · 1 slide, 3 objects"
    with pytest.raises(InputError, match="cannot be read"):
        Order.read({"sources": []})


def test_boxes_alone_are_a_method_of_models_that_find_objects(tmp_path):
    made = Order((tmp_path / "a.svs",), ("a.svs",), 3, "m", "boxes", 5, "a", "m-a", 2)
    assert Order.read(json.loads(json.dumps(made.record()))) == made
    arguments = made.train_arguments(tmp_path / "data", tmp_path / "run")
    assert arguments[arguments.index("--method") + 1] == "decoder"
    assert "--boxes-only" in arguments
    card = next(one for one in ModelRegistry().cards().values() if one.decoder == "des-sam")
    assert Base(card, ("boxes",)).said("boxes")[0].startswith("Boxes only")
