"""``histosam train``: from a labelled folder to a model that all other commands know."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from napari_histosam.cli import main
from napari_histosam.models import ModelRegistry
from napari_histosam.train.finetune import validation

SMALL = "histosam-small"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One object of each window is enough to validate with, and one thread to train on."""
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(validation, "_OBJECTS", 1)
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


def fill(root, names):
    """Write a set of pictures with two discs each."""
    rng = np.random.default_rng(0)
    folder, items = root / "nuclei", []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows, columns = np.mgrid[:90, :96] + 0.5
    for number, name in enumerate(names):
        image, labels = np.full((90, 96, 3), (228, 190, 212), float), np.zeros((90, 96), np.uint8)
        for label, (x, y, r) in enumerate(((26 + 5 * number, 30, 12), (70, 62, 14)), 1):
            inside = (columns - x) ** 2 + (rows - y) ** 2 < r**2
            image[inside], labels[inside] = (150, 110, 170), label
        image = (image + rng.normal(0, 10, image.shape)).clip(0, 255).astype(np.uint8)
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(folder / item["image"]), image[..., ::-1])
        cv2.imwrite(str(folder / item["mask"]), labels)
        items.append({**item, "mask_kind": "instance", "mpp": None})
    (folder / "index.json").write_text(json.dumps({"items": items}), "utf-8")


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "own"
    fill(root, ("a", "b", "c"))
    (root / "splits.json").write_text(
        json.dumps({"sets": {"nuclei": {"train": ["a", "b"], "val": ["c"]}}}), "utf-8"
    )
    return root


def words(data, out, *more):
    base = ("train", data, "--model", SMALL, "--out", out, "--epochs", 1, "--batch", 2)
    return (*base, "--objects", 2, "--accelerator", "cpu", "--threads", 1, *more)


@pytest.fixture
def refused(histosam):
    """Run the command, which must refuse in one line; return the line."""

    def run(*argv):
        status, out, err = histosam(*argv)
        assert (status, out) == (2, ""), err
        assert err.count("\n") == 1, err
        assert err.startswith("histosam")
        assert "Traceback" not in err
        return err

    return run


def test_a_trained_model_is_known_to_every_command(histosam, data, tmp_path):
    out, plain = tmp_path / "run", tmp_path / "plain.safetensors"
    more = ("--name", "mine", "--export", plain, "--max-objects", 1, "--json")
    status, told, err = histosam(*words(data, out, *more))
    assert (status, err) == (0, "")
    found = json.loads(told)
    assert found["name"] == "mine"
    assert found["state"] == "done"
    assert found["verdict"] in ("better", "same", "worse")
    assert found["comparison"]["n_objects"] == 1
    assert {row["model"] for row in found["results"]} == {SMALL, "mine"}
    assert found["comparison"]["figures"]["iou"].keys() >= {"before", "after", "gain", "low"}
    assert json.loads((out / "report.json").read_text("utf-8"))["verdict"] == found["verdict"]
    assert "mine" in (out / "report.md").read_text("utf-8")

    listed = json.loads(histosam("models", "list", "--json")[1])
    row = {row["name"]: row for row in listed}["mine"]
    assert row["ready"]
    assert row["trained"]["verdict"] == found["verdict"]
    assert row["trained"]["figures"]["n_objects"] == 1
    assert row["bytes"] == found["bytes"] < 6_000_000
    status, told, err = histosam(
        "evaluate", data, "--model", "mine", "--max-objects", 1, "--device", "cpu", "--json"
    )
    assert (status, err) == (0, "")
    same = next(r for r in found["results"] if r["model"] == "mine")
    assert json.loads(told)["results"][0]["iou_box"] == pytest.approx(same["iou_box"])

    registry = ModelRegistry()
    assert plain.stat().st_size > row["bytes"]
    assert registry.load(SMALL, "cpu", [plain]).card.name == SMALL
    other = tmp_path / "again.pth"
    status, told, _ = histosam("models", "export", "mine", other, "--json")
    assert status == 0
    assert json.loads(told)["bytes"] == other.stat().st_size

    # The same command again tells the same, and takes the model's own name.
    again = json.loads(histosam(*words(data, out, *more))[1])
    assert again["name"] == "mine"
    assert again["comparison"] == found["comparison"]


def test_two_runs_make_two_models_and_a_taken_name_is_refused(histosam, refused, data, tmp_path):
    names = []
    for number in range(2):
        status, told, err = histosam(
            *words(data, tmp_path / f"run{number}", "--max-objects", 1, "--json")
        )
        assert (status, err) == (0, "")
        names.append(json.loads(told)["name"])
    assert names == ["histosam-small-own-decoder", "histosam-small-own-decoder-2"]
    line = refused(*words(data, tmp_path / "third", "--name", names[0]))
    assert "is taken by another model" in line
    assert "letters or digits" in refused(*words(data, tmp_path / "third", "--name", "?"))
    assert not (tmp_path / "third").exists()


def test_a_paused_run_says_how_to_go_on(histosam, data, tmp_path, monkeypatch):
    from napari_histosam.train.finetune.folder import RunFolder

    monkeypatch.setattr(RunFolder, "asked_to_stop", lambda self: True)
    status, told, err = histosam(*words(data, tmp_path / "run"))
    assert (status, err) == (0, "")
    assert "Paused at 0 of 1 epochs" in told
    assert "Run the same command to go on" in told
    assert "mine" not in ModelRegistry().cards()


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("--method", "lora", "cannot be trained by the method 'lora': choose decoder or full"),
        ("--method", "odd", "choose decoder or full"),
        ("--model", "classical", "classical cannot be trained"),
        ("--model", "nobody", "No model is called 'nobody'"),
        ("--model", "sam-vit-b", "weights of sam-vit-b are not on this machine"),
        ("--model", "medsam", "medsam"),
        ("--epochs", 0, "--epochs must be 1 or more"),
        ("--rate", -1, "--rate must be a number above 0"),
        ("--set", "glands", "has no set glands"),
        ("--nodes", 2, "need a launcher"),
        ("--accelerator", "tpu", "is unknown"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(refused, data, tmp_path, argument, value, sentence):
    assert sentence in refused(*words(data, tmp_path / "run"), argument, value)


def test_an_export_that_will_not_do_is_refused_before_the_training(refused, data, tmp_path):
    asked = (*words(data, tmp_path / "run"), "--model", "wsi-sam", "--method", "decoder")
    line = refused(*asked, "--export", tmp_path / "plain.pth")
    assert "name a folder" in line
    assert not (tmp_path / "run").exists()


def test_boxes_alone_teach_only_models_that_find_objects(refused, data, tmp_path):
    line = refused(*words(data, tmp_path / "run"), "--boxes-only")
    assert "not from boxes: leave --boxes-only away, or train des-sam" in line
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_used_is_one_sentence(refused, data, tmp_path):
    out = tmp_path / "run"
    assert "holds no data set" in refused(*words(tmp_path / "nowhere", out))
    (data / "nuclei" / "images" / "c.png").write_bytes(b"nothing")
    assert "c.png is missing or no image" in refused(*words(data, out))
    assert json.loads((out / "run.json").read_text("utf-8"))["state"] == "failed"
    fill(tmp_path / "one", ("a",))
    assert "holds one image" in refused(*words(tmp_path / "one", out))
    fill(tmp_path / "empty", ("a", "b"))
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "empty/nuclei/masks" / f"{name}.png"), np.zeros((90, 96)))
    assert "No mask shows an object" in refused(*words(tmp_path / "empty", out))


def test_a_folder_that_cannot_be_made_is_one_sentence(refused, data, tmp_path):
    (tmp_path / "file").write_text("x")
    line = refused(*words(data, tmp_path / "file" / "run"))
    assert "cannot be made" in line or "cannot be written" in line


def test_a_class_that_is_missing_is_told(histosam, data, tmp_path):
    path = data / "nuclei" / "index.json"
    index = json.loads(path.read_text("utf-8"))
    index["items"][0]["objects"] = [
        {"label": 1, "class": "Tumour"},
        {"label": 2, "class": "Stroma"},
    ]
    index["items"][2]["classes"] = {"*": "Stroma"}
    path.write_text(json.dumps(index), "utf-8")
    status, told, err = histosam(*words(data, tmp_path / "run", "--max-objects", 1))
    assert (status, err) == (0, "")
    assert "No image that is held out has the class Tumour" in told


@pytest.fixture
def paused(histosam, data, tmp_path, monkeypatch):
    """Return what trains until after the first epoch, which reaches a given figure."""
    from napari_histosam.train.finetune import loop
    from napari_histosam.train.finetune.folder import RunFolder

    means = loop.means

    def run(*ious):
        told = iter(ious)
        monkeypatch.setattr(loop, "means", lambda *a: {**means(*a), "val_iou": next(told)})
        learn = loop.Loop._learn

        def learning(self):
            learn(self)
            self._folder.ask_to_stop()

        with monkeypatch.context() as patch:
            patch.setattr(loop.Loop, "_learn", learning)
            status, _, err = histosam(*words(data, tmp_path / "run", "--epochs", 3))
        assert (status, err) == (0, "")
        assert RunFolder(tmp_path / "run").status()["state"] == "paused"
        return tmp_path / "run"

    return run


def test_a_paused_run_is_finished_with_what_it_has(histosam, data, paused):
    out = paused(0.5, 0.6)
    more = ("--epochs", 3, "--name", "short", "--max-objects", 1, "--json")
    status, told, err = histosam(*words(data, out, "--finish", *more))
    assert (status, err) == (0, "")
    found = json.loads(told)
    assert (found["state"], found["best_epoch"], found["name"]) == ("done", 1, "short")
    assert found["verdict"] in ("better", "same", "worse")
    assert "Finished early after 1 of 3 epochs" in found["message"]
    assert ModelRegistry().get("short").trained.figures["best_epoch"] == 1
    again = json.loads(histosam(*words(data, out, *more))[1])
    assert (again["message"], again["comparison"]) == (found["message"], found["comparison"])


def test_a_run_that_is_no_better_is_finished_without_a_model(histosam, data, paused):
    out = paused(0.5, 0.4)
    before = set(ModelRegistry().cards())
    words_ = words(data, out, "--epochs", 3, "--finish")
    status, told, err = histosam(*words_)
    assert (status, err) == (0, "")
    assert "no epoch was better than histosam-small, so there is no new model." in told
    status, told, _ = histosam(*words_, "--json")
    assert (status, json.loads(told)["state"]) == (0, "done")
    assert set(ModelRegistry().cards()) == before
    assert not (out / "report.json").exists()


def test_finishing_needs_a_run_and_asks_the_process_that_trains(histosam, refused, data, tmp_path):
    import os

    from napari_histosam.train.finetune.folder import RunFolder

    out = tmp_path / "run"
    assert "holds no run to finish" in refused(*words(data, out, "--finish"))
    folder = RunFolder(out)
    folder.make()
    folder.tell("running", "At work.")
    said = (out / "run.json").read_text("utf-8").replace(str(os.getpid()), str(os.getppid()))
    (out / "run.json").write_text(said, "utf-8")
    status, told, err = histosam(*words(data, out, "--finish"))
    assert (status, err) == (0, "")
    assert "ends at its next step" in told
    assert folder.asked_to_finish()
    assert folder.status()["message"] == "At work."


@pytest.mark.parametrize(
    "part", [".mine.safetensors.", pytest.param(".report.md.", marks=pytest.mark.slow)]
)
def test_a_disk_that_is_full_at_the_end_costs_the_comparison_only(
    histosam, data, tmp_path, monkeypatch, part
):
    import errno

    from napari_histosam.models import files

    out = tmp_path / "run"
    mkstemp = files.tempfile.mkstemp

    def full(*given, **words):
        if part in words.get("prefix", ""):
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkstemp(*given, **words)

    asked = words(data, out, "--name", "mine", "--max-objects", 1, "--json")
    with monkeypatch.context() as patch:
        patch.setattr(files.tempfile, "mkstemp", full)
        status, told, err = histosam(*asked)
    assert (status, told) == (1, "")
    assert err.startswith("histosam: The disk is full:")
    assert err.count("\n") == 1
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["state"] == "done"
    assert run["notes"][-1].startswith(f"It was not compared with {SMALL}: The disk is full")
    status, told, err = histosam(*asked)
    assert (status, err) == (0, "")
    found = json.loads(told)
    assert found["message"] == run["message"]
    assert not any("not compared" in note for note in found["notes"])
    assert ModelRegistry().get("mine").trained.verdict == found["verdict"]


def test_a_comparison_without_memory_keeps_the_run(histosam, data, tmp_path, monkeypatch):
    import torch

    from napari_histosam.models.small import model

    def never(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    asked = words(data, tmp_path / "run", "--name", "mine", "--max-objects", 1)
    with monkeypatch.context() as patch:
        patch.setattr(model, "find", never)
        status, told, err = histosam(*asked)
    assert (status, told) == (1, "")
    assert err.startswith("histosam: This computer has not enough free memory for the model")
    assert err.count("\n") == 1
    run = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert run["state"] == "done"
    assert "not enough free memory" in run["notes"][-1]
    assert histosam(*asked)[0] == 0
