"""Areas from the command line: a model is begun, trained, stopped, gone on with, evaluated."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from napari_histosam.cli import main
from napari_histosam.models import ModelRegistry
from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.catalog import write_card
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.train.windowed.loop import WindowLoop

SIDE = 128
PINK, PURPLE = (232, 190, 215), (120, 70, 150)


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def histosam(capsys):
    """Run a command; return exit status, stdout and stderr."""

    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def refused(histosam):
    """Run a command, which must refuse in one line; return the line."""

    def run(*argv):
        status, out, err = histosam(*argv)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert "Traceback" not in err
        return err

    return run


@pytest.fixture
def base():
    """An untrained model on the bundled encoder, with a small window so that all is quick."""
    registry = ModelRegistry()
    registry.begin("sam", "histosam-small", "begun")
    card = registry.begin("sam-lung", "begun", "lung")
    write_card(replace(card, window_px=SIDE), registry.folder / "lung.json")
    return "lung"


def picture(seed):
    """Tissue of two tones, their border somewhere, and a strip of which nothing is known."""
    rng = np.random.default_rng(seed)
    border = rng.integers(SIDE // 4, 3 * SIDE // 4)
    areas = np.zeros((SIDE, SIDE), np.uint8)
    areas[:, border:] = 1
    if seed % 2:
        areas = areas.T.copy()
    image = np.where(areas[..., None] == 1, PURPLE, PINK) + rng.normal(0, 12, (SIDE, SIDE, 3))
    areas[:6] = 255
    return image.clip(0, 255).astype(np.uint8), areas


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "tissue"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    items, splits = [], {"train": [], "val": [], "test": []}
    for seed, split in enumerate(["train"] * 4 + ["val"] + ["test"] * 2):
        image, areas = picture(seed)
        name = f"own_{seed}"
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(root / item["image"]), image[..., ::-1])
        cv2.imwrite(str(root / item["mask"]), areas)
        classes = {"0": "stroma", "1": "carcinoma"}
        items.append({**item, "mask_kind": "semantic", "mpp": 1.0, "classes": classes})
        splits[split].append(name)
    (root / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    (root / "splits.json").write_text(json.dumps({"sets": {root.name: splits}}), "utf-8")
    return root


def training(data, out, *more):
    options = ("--epochs", 30, "--patience", 30, "--accelerator", "cpu", "--json")
    return ("train", data, "--model", "lung", "--out", out, *options, *more)


def test_areas_are_learned_stopped_and_gone_on_with(histosam, base, data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    real, done = WindowLoop._learn, []

    def learn(self):
        real(self)
        done.append(self.step)
        if len(done) == 9:
            self._folder.ask_to_stop()

    monkeypatch.setattr(WindowLoop, "_learn", learn)
    status, told, err = histosam(*training(data, out, "--name", "mine"))
    assert (status, err) == (0, "")
    assert json.loads(told)["state"] == "paused"
    assert json.loads((out / "run.json").read_text("utf-8"))["state"] == "paused"
    assert "mine" not in ModelRegistry().cards()
    status, told, err = histosam(*training(data, out, "--name", "mine"))
    assert (status, err) == (0, "")
    assert done == list(range(1, 31))
    found = json.loads(told)
    assert (found["state"], found["comparison"]["verdict"]) == ("done", "better")
    dice = found["comparison"]["figures"]["dice"]
    assert dice["after"] > max(0.9, dice["before"] + 0.2)
    assert found["comparison"]["n_images"] == 2
    rows = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 31))
    assert "val_auc" in (out / "log.csv").read_text("utf-8").splitlines()[0]

    registry = ModelRegistry()
    card = registry.get("mine")
    assert (card.classes, card.trained.verdict) == (("Tumour",), "better")
    assert card.trained.figures["n_images"] == 2
    assert card.files[0].bytes < 2_000_000
    model = registry.load("mine", "cpu")
    assert isinstance(model, RegionModel)
    image, areas = picture(50)
    right = (model.probabilities(image)[0] > 0.5) == (areas == 1)
    assert right[8:].mean() > 0.9

    status, told, err = histosam(
        *("evaluate", data, "--split", "test", "--model", "mine", "--model", "lung"),
        *("--device", "cpu", "--out", tmp_path / "report", "--json"),
    )
    assert (status, err) == (0, "")
    after, before = json.loads(told)["results"]
    assert after["area_dice"] == pytest.approx(dice["after"], abs=0.01)
    assert before["area_dice"] == pytest.approx(dice["before"], abs=0.01)
    assert after["pixel_auc"] > 0.95
    assert after["iou_by_class"]["Tumour"] > 0.8
    assert (after["n_images"], after["n_without"], after["false_area_share"]) == (2, 0, None)
    assert "### Areas" in (tmp_path / "report" / "evaluation.md").read_text("utf-8")

    # Without a stop it comes to the same.
    monkeypatch.setattr(WindowLoop, "_learn", real)
    assert histosam(*training(data, tmp_path / "whole", "--one-class", "Cancer"))[0] == 0
    one, other = (read_checkpoint(p / "best.safetensors") for p in (out, tmp_path / "whole"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    named = {card.classes for card in ModelRegistry().cards().values() if card.trained}
    assert named == {("Tumour",), ("Cancer",)}


def test_several_classes_are_learned_by_their_names(histosam, refused, base, data, tmp_path):
    index = json.loads((data / "index.json").read_text("utf-8"))
    for item in index["items"]:
        areas = cv2.imread(str(data / item["mask"]), cv2.IMREAD_UNCHANGED)
        areas[areas == 0] = 2
        areas[-40:] = 0
        image = cv2.imread(str(data / item["image"]))
        image[-40:] = 250
        cv2.imwrite(str(data / item["image"]), image)
        cv2.imwrite(str(data / item["mask"]), areas)
        item["classes"] = {"0": "glass", "1": "carcinoma", "2": "stroma"}
    (data / "index.json").write_text(json.dumps(index), "utf-8")
    longer = ("--name", "two", "--epochs", 80, "--patience", 80)
    status, _, err = histosam(*training(data, tmp_path / "run", *longer))
    assert (status, err) == (0, "")
    assert ModelRegistry().get("two").classes == ("carcinoma", "stroma")
    evaluate = ("evaluate", data, "--split", "test", "--model", "two", "--device", "cpu", "--json")
    row = json.loads(histosam(*evaluate)[1])["results"][0]
    assert min(row["dice_by_class"].values()) > 0.8
    for item in index["items"]:
        item["classes"] = {"1": "bone"}
    (data / "index.json").write_text(json.dumps(index), "utf-8")
    assert "carcinoma, stroma apart" in refused(*evaluate)


def test_what_cannot_be_learned_is_told_in_a_sentence(refused, base, data, tmp_path):
    out = tmp_path / "run"
    assert "leave --boxes-only away" in refused(*training(data, out, "--boxes-only"))
    assert "choose decoder" in refused(*training(data, out, "--method", "mona"))
    assert "not empty" in refused(*training(data, out, "--one-class", " "))
    small = ("train", data, "--model", "histosam-small", "--out", out)
    assert "leave --one-class away" in refused(*small, "--one-class", "Tumour")
    assert "holds no image with an instance mask" in refused(*small)
    index = json.loads((data / "index.json").read_text("utf-8"))
    unknown = np.full((SIDE, SIDE), 255, np.uint8)
    for item in index["items"]:
        cv2.imwrite(str(data / item["mask"]), unknown)
    assert "255 stands for what is unknown" in refused(*training(data, out))
    for item in index["items"]:
        item.pop("mask")
    (data / "index.json").write_text(json.dumps(index), "utf-8")
    assert "holds no image with a mask" in refused(*training(data, tmp_path / "other"))
    assert "with a mask to evaluate" in refused("evaluate", data, "--model", "lung")
