"""``histosam evaluate``: rows, files and refusals, on a few small pictures."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest

from napari_histosam.cli import main
from napari_histosam.models import ModelRegistry

PROMISED = {
    "set",
    "model",
    "n_objects",
    "iou_click1",
    "iou_click3",
    "iou_box",
    "encode_ms",
    "decode_ms",
}
NUCLEI = ((24, 30, 11), (70, 40, 13), (50, 85, 10), (0, 95, 14))
SMALL = "histosam-small"


@pytest.fixture
def histosam(capsys):
    """Run the command; return exit status, stdout and stderr."""

    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def evaluated(histosam):
    """Evaluate the classical model (or others) with --json; return what it told."""

    def run(*argv, models=("classical",)):
        named = [word for model in models for word in ("--model", model)]
        status, out, err = histosam("evaluate", *argv, *named, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def refused(histosam):
    """Run the command, which must refuse in one line; return the line."""

    def run(*argv):
        status, out, err = histosam("evaluate", *argv)
        assert status == 2, err
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("histosam")
        assert "Traceback" not in err
        return err

    return run


@pytest.fixture
def threads():
    """How many threads a model may use is a matter of the process: put it back."""
    import torch

    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


def paint(discs, width=110, height=120):
    """Dark blue discs on pink, a little uneven, and their labels."""
    rng = np.random.default_rng(len(discs))
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.full((height, width, 3), (228, 190, 212), float)
    labels = np.zeros((height, width), np.uint8)
    for number, (x, y, r) in enumerate(discs, 1):
        inside = (columns - x) ** 2 + (rows - y) ** 2 < r**2
        image[inside], labels[inside] = (90, 62, 140), number
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8), labels


def fill(folder, names, discs):
    """Write a set: images/, masks/ and index.json."""
    items = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name in names:
        image, labels = paint(discs)
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(folder / item["image"]), image[..., ::-1])
        cv2.imwrite(str(folder / item["mask"]), labels)
        items.append({**item, "mask_kind": "instance", "mpp": None})
    (folder / "index.json").write_text(json.dumps({"items": items}), "utf-8")


@pytest.fixture
def data(tmp_path):
    """Two sets: nuclei with three splits, glands with one."""
    root = tmp_path / "data"
    fill(root / "nuclei", ("dsb_1", "dsb_2", "tnbc_3"), NUCLEI)
    fill(root / "glands", ("ebhi_1",), ((55, 60, 35),))
    splits = {
        "nuclei": {"dev_train": ["dsb_1"], "dev_val": ["dsb_2"], "test": ["tnbc_3"]},
        "glands": {"dev_val": ["ebhi_1"], "test": [], "dev_train": []},
    }
    (root / "splits.json").write_text(json.dumps({"sets": splits}), "utf-8")
    return root


# what it tells


def test_a_row_for_each_set(evaluated, data):
    told = evaluated(data)
    rows = told["results"]
    assert [row["set"] for row in rows] == ["glands", "nuclei"]
    for row in rows:
        assert set(row) >= PROMISED
        assert row["model"] == "classical"
        assert row["decode_ms"] > 0
        assert row["encode_ms"] > 0
        for key in ("iou_click1", "iou_click3", "iou_box"):
            assert 0 < row[key] <= 1
    glands, nuclei = rows
    # All that is not for training: two pictures of four objects, one of which is cut.
    assert (glands["n_objects"], nuclei["n_objects"], nuclei["n_cut"]) == (1, 8, 2)
    assert list(nuclei["by_source"]) == ["dsb", "tnbc"]
    assert nuclei["iou_box"] > 0.8  # plain discs are no matter
    assert told["seed"] == 0
    assert told["device"] == "cpu"
    assert told["threads"] >= 1


def test_two_models_give_two_rows(evaluated, data):
    other = SMALL if ModelRegistry().is_ready(SMALL) else "classical"
    models = ("classical", other)
    told = evaluated(data, "--set", "nuclei", "--max-objects", 1, models=models)
    assert [row["model"] for row in told["results"]] == list(models)
    assert all(set(row) >= PROMISED for row in told["results"])
    first, second = told["results"]
    # The same objects in the same boxes.
    assert first["iou_ellipse"] == second["iou_ellipse"]
    assert first["n_objects"] == second["n_objects"] == 2


def test_models_may_be_named_at_once(histosam, data):
    line = ("evaluate", data / "glands", "--model", "classical", "classical", "--json")
    status, out, _ = histosam(*line)
    assert status == 0
    assert len(json.loads(out)["results"]) == 2


def without_times(told):
    return [{k: v for k, v in row.items() if not k.endswith("_ms")} for row in told["results"]]


def test_the_seed_decides_and_is_told(evaluated, data):
    first = evaluated(data / "nuclei", "--seed", 5)
    assert first["seed"] == 5
    assert without_times(evaluated(data / "nuclei", "--seed", 5)) == without_times(first)
    other = evaluated(data / "nuclei", "--seed", 6)
    assert other["results"][0]["iou_ellipse"] != first["results"][0]["iou_ellipse"]


def test_splits_sets_and_counts(evaluated, data):
    def counts(*argv):
        return {row["set"]: row["n_objects"] for row in evaluated(data, *argv)["results"]}

    assert counts("--split", "dev_val") == {"glands": 1, "nuclei": 4}
    assert counts("--split", "dev_val", "--split", "dev_train") == {"glands": 1, "nuclei": 8}
    assert counts("--split", "test") == {"nuclei": 4}
    assert counts("--set", "glands") == {"glands": 1}
    assert counts("--set", "glands", "--set", "nuclei", "--max-objects", 3) == {
        "glands": 1,
        "nuclei": 6,
    }


def test_one_set_without_splits(evaluated, tmp_path):
    fill(tmp_path / "own", ("a_1", "b_1"), NUCLEI[:2])
    (row,) = evaluated(tmp_path / "own")["results"]
    assert (row["set"], row["n_objects"]) == ("own", 4)


def test_threads_are_used_and_told(evaluated, data, threads):
    for count in (2, 1):
        told = evaluated(data / "glands", "--threads", count)
        assert told["threads"] == threads() == count


def test_a_table_for_people(histosam, data):
    status, out, err = histosam("evaluate", data / "nuclei", "--seed", 3, "--model", "classical")
    assert (status, err) == (0, "")
    assert "seed 3" in out
    assert "| nuclei | classical | 8 |" in out
    assert "By data set" in out


def test_progress_is_for_people_only(histosam, data, monkeypatch):
    line = ("evaluate", data / "nuclei", "--max-objects", 1, "--model", "classical")
    assert histosam(*line)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    err = histosam(*line)[2]
    assert err == (
        "\rclassical: image 1 of 2 \rclassical: image 2 of 2 \n"
        "\rclassical by itself: image 1 of 2 \rclassical by itself: image 2 of 2 \n"
    )


def test_without_a_model_the_default_one_is_taken(histosam, data, monkeypatch):
    monkeypatch.setattr("napari_histosam.session.DEFAULT_MODEL", "classical")
    status, out, _ = histosam("evaluate", data / "glands", "--json")
    assert status == 0
    assert json.loads(out)["results"][0]["model"] == "classical"


# what it writes


def test_files_are_written(evaluated, data, tmp_path):
    out = tmp_path / "some" / "where"
    told = evaluated(data, "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "glands-classical.png",
        "nuclei-classical.png",
    }
    assert json.loads((out / "evaluation.json").read_text("utf-8")) == told
    text = (out / "evaluation.md").read_text("utf-8")
    assert "| nuclei | classical | 8 |" in text
    assert "| glands | classical | 1 |" in text
    for name in ("glands", "nuclei"):
        picture = cv2.imread(str(out / f"{name}-classical.png"))
        assert picture.shape[1] == 8 * 192
        assert picture.shape[0] % 192 == 0
        assert picture.std() > 5


# what it refuses


def test_no_such_folder_or_no_index(refused, data, tmp_path):
    assert "holds no data set" in refused(tmp_path / "none", "--model", "classical")
    assert "holds no data set" in refused(data / "nuclei" / "masks", "--model", "classical")
    (data / "nuclei" / "index.json").write_text("no JSON")
    assert "index.json cannot be read" in refused(data, "--model", "classical")


def test_unknown_names(refused, data):
    line = refused(data, "--split", "nope", "--model", "classical")
    assert "no split nope" in line
    assert "dev_val" in line
    assert "No model is called 'nope'" in refused(data, "--model", "nope")
    line = refused(data, "--set", "nuclei", "--set", "nope", "--model", "classical")
    assert "no set nope, but glands, nuclei" in line


def test_an_unknown_device(refused, data):
    if not ModelRegistry().is_ready(SMALL):
        pytest.skip("no weights to put on a device")
    assert "Device 'moon' is unknown" in refused(data, "--model", SMALL, "--device", "moon")


def test_weights_that_are_not_there(refused, data):
    assert "not on this machine" in refused(data, "--model", "mobile-sam")


def test_a_mask_of_another_size(refused, data):
    path = data / "nuclei" / "masks" / "dsb_2.png"
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:-1])
    line = refused(data, "--model", "classical")
    assert str(path) in line
    assert "(119, 110)" in line


def test_masks_that_show_no_object(refused, data):
    path = data / "glands" / "masks" / "ebhi_1.png"
    cv2.imwrite(str(path), np.zeros((120, 110), np.uint8))
    assert "glands show no object" in refused(data, "--model", "classical")


def test_no_image_is_left_to_evaluate_on(refused, data):
    splits = json.loads((data / "splits.json").read_text("utf-8"))
    splits["sets"]["glands"] = {"dev_train": ["ebhi_1"]}
    (data / "splits.json").write_text(json.dumps(splits), "utf-8")
    assert "no image" in refused(data / "glands", "--model", "classical")


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_objects_at_most(refused, data, count):
    assert "--max-objects must be at least 1" in refused(
        data, f"--max-objects={count}", "--model", "classical"
    )


def test_words_that_are_no_numbers(refused, data):
    assert "--max-objects" in refused(data, "--max-objects", "few")
    assert "--seed" in refused(data, "--seed", "lucky")
    assert "--seed must not be negative" in refused(data, "--seed=-1", "--model", "classical")


def test_no_threads(refused, data, threads):
    assert "0 threads are too few" in refused(data, "--threads", "0", "--model", "classical")


def test_weights_go_with_one_model(refused, data, tmp_path):
    file = tmp_path / "some.pth"
    file.write_text("no weights")
    given = ("--weights", file)
    assert "--weights goes with one --model" in refused(
        data, "--model", "classical", "--model", "sam-vit-b", *given
    )
    assert "--weights goes with one" in refused(data, "--model", "classical", "sam-vit-b", *given)
    assert "has no weights" in refused(data, "--model", "classical", *given)
    assert "is no file" in refused(data, "--model", "sam", "--weights", tmp_path / "none.pth")


def test_a_target_that_is_a_file(refused, data, tmp_path):
    target = tmp_path / "taken"
    target.write_text("a text")
    assert "cannot be made" in refused(data, "--model", "classical", "--out", target)
    assert target.read_text() == "a text"


def test_bad_input_leaves_no_report(refused, data, tmp_path):
    cv2.imwrite(str(data / "nuclei" / "masks" / "tnbc_3.png"), np.zeros((5, 5), np.uint8))
    out = tmp_path / "out"
    refused(data, "--model", "classical", "--out", out)
    assert not (out / "evaluation.json").exists()
    assert not (out / "evaluation.md").exists()


def test_a_model_that_finds_by_itself_gets_figures_for_that(evaluated, histosam, data):
    only = (data, "--set", "nuclei")
    (row,) = evaluated(*only)["results"]
    assert row["n_found"] > 0
    assert row["n_true"] >= row["n_objects"]
    for key in ("ap50", "aji", "pq", "dice", "object_dice"):
        assert 0.5 < row[key] <= 1, key
    _, text, _ = histosam("evaluate", *only, "--model", "classical")
    assert "Without prompts" in text
    assert "AP50" in text
    (other,) = evaluated(*only, models=(SMALL,))["results"]
    assert "ap50" not in other
