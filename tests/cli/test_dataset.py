"""``histosam dataset``: what it tells, what it takes, how it refuses, and who reads the result."""

from __future__ import annotations

import json
import shutil

import pytest
import shapely

from napari_histosam.cli import dataset, main
from napari_histosam.exchange import write
from napari_histosam.records import ObjectClass, SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import open_store_for


@pytest.fixture
def histosam(capsys):
    """Run the command; return exit status, stdout and stderr."""

    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def built(histosam):
    """Build with --json; return what it told."""

    def run(*argv):
        status, out, err = histosam("dataset", *argv, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def refused(histosam):
    """Run the command, which must refuse in one line; return the line."""

    def run(*argv):
        status, out, err = histosam("dataset", *argv)
        assert status == 2, err
        assert out == ""
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err

    return run


def nucleus(x, y, r=10):
    return SlideObject(shapely.Point(x, y).buffer(r), "Nucleus", id=f"{x}-{y}")


@pytest.fixture
def make_slide(tmp_path, sample_slide_path):
    """Copies of the shipped slide, each with the name of another scanner: other slides."""

    def make(name, mark=b"C", objects=()):
        path = tmp_path / name
        data = sample_slide_path.read_bytes()
        assert b"ScanScope ID = C" in data
        path.write_bytes(data.replace(b"ScanScope ID = C", b"ScanScope ID = " + mark))
        with open_slide(path) as slide, open_store_for(path, slide.identity, name) as store:
            store.put_class(ObjectClass("Nucleus", (0, 0, 0)))
            if objects:
                store.add(objects)
        return path

    return make


@pytest.fixture
def slide(make_slide):
    return make_slide("a.svs", objects=[nucleus(1134, 2027), nucleus(1160, 2050)])


def test_a_store_becomes_a_data_set(built, slide, tmp_path):
    store = slide.with_name("a.svs.histosam.sqlite")
    told = built(store, "--out", tmp_path / "set")
    wanted = {"out", "slides", "windows", "objects", "splits", "classes", "mpp", "seconds"}
    assert wanted <= set(told)
    assert (told["slides"], told["objects"], told["classes"]) == (1, 2, {"Nucleus": 1})
    assert told["splits"]["train"]["by_class"] == [{"class": "Nucleus", "objects": 2}]
    assert told["out"] == str(tmp_path / "set")
    assert told["mpp"] == 0.25  # 10 µm nuclei for a model that likes 36 px or more
    assert built(slide, "--out", tmp_path / "set")["added"] == 0


def test_it_tells_people_what_is_there_and_what_is_lacking(histosam, slide, tmp_path):
    status, out, err = histosam("dataset", slide, "--out", tmp_path / "set")
    assert (status, err) == (0, "")
    assert "2 objects of 1 slide in 1 window, written to" in out
    assert "scale: 0.25 µm/px, so that most objects are 36 to 300 px long" in out
    assert "train: 1 slide, 1 window: 2 Nucleus" in out
    assert "one slide only, and all of it is for training" in out


def test_evaluate_reads_it(histosam, built, make_slide, tmp_path):
    slides = [
        make_slide(f"{n}.svs", b"XY"[n : n + 1], [nucleus(1134 + 40 * n, 2027)]) for n in range(2)
    ]
    told = built(*slides, "--out", tmp_path / "set", "--size", 256)
    assert told["splits"]["val"]["objects"] == told["splits"]["train"]["objects"] == 1
    for split, words in (("val", ()), ("train", ("--split", "train"))):
        status, out, _ = histosam(
            "evaluate", tmp_path / "set", "--model", "classical", "--json", *words
        )
        assert status == 0
        (row,) = json.loads(out)["results"]
        assert row["set"] == "set"
        assert row["n_objects"] == told["splits"][split]["objects"]


def test_a_model_or_the_user_gives_the_scale(built, slide, tmp_path):
    told = built(slide, "--out", tmp_path / "one", "--model", "patho-sam-vit-b")
    assert "as the model patho-sam-vit-b wants" in told["scale"]
    told = built(slide, "--out", tmp_path / "two", "--mpp", "1")
    assert told["mpp"] == 1
    assert "as the user wants" in told["scale"]
    assert built(slide, "--out", tmp_path / "three", "--model", "sam-vit-b")["mpp"] == 0.25


def test_annotation_files_and_patients(built, make_slide, sample_slide_path, slide, tmp_path):
    other = make_slide("b.svs", b"B")
    path = tmp_path / "b.geojson"
    write([nucleus(600, 700), SlideObject(shapely.box(500, 600, 900, 900), "ROI")], path)
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\na,Ann\n", "utf-8")
    line = (slide, "--annotations", path, "--slide", other, "--out", tmp_path / "set")
    told = built(*line, "--patients", table, "b=Ann", "--region-class", "ROI")
    assert (told["slides"], told["objects"]) == (2, 3)
    assert told["splits"]["train"]["slides"] == 2
    assert "one patient only" in told["lacking"][0]
    items = json.loads((tmp_path / "set" / "index.json").read_text("utf-8"))["items"]
    assert any(item["background"] for item in items)


def test_slides_may_lie_elsewhere(built, refused, slide, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    store = slide.with_name("a.svs.histosam.sqlite")
    shutil.move(slide, away)
    line = (store, "--out", tmp_path / "set")
    assert "--slides" in refused(*line)
    assert built(*line, "--slides", away)["objects"] == 2


def test_bad_input_is_refused_in_one_line(refused, make_slide, slide, tmp_path):
    out = ("--out", tmp_path / "set")
    bare = make_slide("bare.svs", b"B")
    file = tmp_path / "file"
    file.write_text("text")
    lines = [
        (("--out", tmp_path / "set"), "nothing to build from"),
        ((bare, *out), "no object to learn from"),
        ((tmp_path / "none.svs", *out), "There is no"),
        ((file, *out), "not a slide"),
        ((slide, "--out", file), "is a file"),
        ((slide, "--out", tmp_path), "holds other files"),
        ((slide, "--out", file / "set"), "Cannot write"),
        ((slide, *out, "--annotations", file), "1 --annotations and 0 --slide"),
        ((slide, *out, "--patients", file), "no columns slide and patient"),
        ((slide, *out, "--patients", "none.csv"), "neither a table"),
        ((slide, *out, "--model", "none"), "No model is called"),
        ((slide, *out, "--mpp", "-1"), "not possible"),
        ((slide, *out, "--size", "1"), "64 to 4096"),
        ((slide, *out, "--val", "0.6", "--test", "0.6"), "nothing to train on"),
        ((slide,), "--out"),
    ]
    for words, said in lines:
        assert said in refused(*words)
    assert not (tmp_path / "set").exists()


def test_ctrl_c_leaves_nothing(histosam, slide, tmp_path, monkeypatch):
    def press(self, progress):
        if progress.total:
            raise KeyboardInterrupt

    monkeypatch.setattr(dataset.ProgressLine, "__call__", press)
    status, _, err = histosam("dataset", slide, "--out", tmp_path / "set")
    assert status == 130
    assert "nothing half-done is left" in err
    assert not (tmp_path / "set").exists()


def test_progress_is_shown_on_a_terminal(histosam, slide, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, _, err = histosam("dataset", slide, "--out", tmp_path / "set")
    assert status == 0
    assert "Reading a.svs" in err
    assert "Cutting windows 1 of 1" in err
    assert err.endswith("\n")
