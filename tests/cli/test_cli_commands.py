"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import shapely
import tifffile

from napari_histosam import __version__
from napari_histosam.cli import display, main, segment
from napari_histosam.errors import HistosamError
from napari_histosam.exchange import ExportContext, read, write, write_prompts
from napari_histosam.models import ModelRegistry
from napari_histosam.records import Prompt, SlideObject

NUCLEUS, OTHER = (1134.0, 2027.5), (1154.5, 2031.5)


@pytest.fixture
def histosam(capsys):
    """Run the command; return exit status, stdout and stderr."""

    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def refused(histosam):
    """Run the command, which must refuse in one line; return the line."""

    def run(*argv, status=2):
        got, out, err = histosam(*argv)
        assert got == status, err
        assert out == ""
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err

    return run


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.geojson"
    write_prompts(
        [
            Prompt(shapely.Point(NUCLEUS), "positive", "a", "Nucleus"),
            Prompt(shapely.Point(OTHER), "positive", "b"),
            Prompt(shapely.Point(OTHER[0] + 14, OTHER[1]), "negative", "b"),
            Prompt(shapely.box(1124, 1989, 1136, 2004), "box", "c"),
        ],
        path,
    )
    return path


# info


def test_info_as_json(histosam, sample_slide_path):
    status, out, err = histosam("info", sample_slide_path, "--json")
    facts = json.loads(out)
    assert (status, err) == (0, "")
    assert facts["format"] == facts["vendor"] == "aperio"
    assert facts["levels"] == [{"width": 2220, "height": 2967, "downsample": 1.0}]
    assert facts["mpp"] == [0.499, 0.499]
    assert facts["objective"] == 20
    assert facts["bounds"] is None
    assert {"label", "macro"} <= set(facts["associated"])


def test_info_for_people(histosam, sample_slide_path):
    status, out, _ = histosam("info", sample_slide_path)
    assert status == 0
    assert "2220 x 2967 px, 1 level\n" in out
    assert "0.499 x 0.499 µm/px" in out


def test_info_of_what_is_no_slide(refused, tmp_path):
    assert "no file" in refused("info", tmp_path / "none.svs")
    text = tmp_path / "notes.svs"
    text.write_text("these are notes")
    assert "notes.svs" in refused("info", text)
    text.write_bytes(b"")
    refused("info", text, "--json")


# models


def test_models_list_is_a_list_of_rows(histosam):
    status, out, _ = histosam("models", "list", "--json")
    rows = json.loads(out)
    assert status == 0
    assert isinstance(rows, list)
    wanted = {"name", "decoder", "ready", "licence", "mpp", "prompts", "bytes"}
    assert all(wanted <= set(row) for row in rows)
    ready = {row["name"]: row["ready"] for row in rows}
    assert ready["classical"] is True
    assert ready["sam-vit-b"] is False
    assert histosam("models", "--json")[1] == out
    assert histosam("--json", "models")[1] == out


def test_models_for_people(histosam):
    out = histosam("models")[1]
    assert "classical" in out
    assert "weights absent" in out
    out = histosam("models", "info", "mobile-sam")[1]
    assert "Apache-2.0" in out
    row = json.loads(histosam("models", "info", "mobile-sam", "--json")[1])
    assert row["name"] == "mobile-sam"


def test_models_verify(histosam, refused, histosam_home):
    status, out, _ = histosam("models", "verify", "--json")
    assert status == 0
    status_of = {row["name"]: row["status"] for row in json.loads(out)}
    assert status_of.pop("histosam-small") == "ok"
    assert set(status_of.values()) == {"missing"}
    assert "histosam-small" in histosam("models", "verify")[1]
    card = ModelRegistry().get("sam-vit-b")
    broken = histosam_home / "weights" / card.files[0].name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half a file")
    assert str(broken) in refused("models", "verify")
    assert histosam("models", "verify", "mobile-sam")[0] == 0


def test_models_refusals(refused, tmp_path):
    assert "needs a model's name" in refused("models", "info")
    assert "needs a file" in refused("models", "import")
    assert "No model is called 'nope'" in refused("models", "info", "nope")
    assert "No model is called 'nope'" in refused("models", "download", "nope")
    assert "invalid choice" in refused("models", "bogus")
    refused("models", "import", tmp_path / "none.pth")
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    refused("models", "import", text)


def test_parts_of_a_model_are_imported_one_by_one(histosam, refused, tmp_path):
    import torch

    from napari_histosam.models.wsi_sam.decoder import TokenDecoder

    paths = [tmp_path / "net_high.pth", tmp_path / "net_low.pth"]
    for path in paths:
        torch.save({"model": TokenDecoder().state_dict(), "epoch": 1}, path)
    status, out, _ = histosam("models", "import", paths[0])
    assert status == 0
    assert "still needs mobile_sam.pt and net_low.pth" in out
    assert "still needs mobile_sam.pt." in histosam("models", "import", *paths)[1]
    row = json.loads(histosam("models", "info", "wsi-sam", "--json")[1])
    assert row["ready"] is False
    assert [path is None for path in row["files"]] == [True, False, False]
    assert "takes one name" in refused("models", "info", "wsi-sam", "i-medsam")


def test_non_commercial_weights_ask_once(
    histosam, refused, histosam_home, sample_slide_path, prompts
):
    folder = histosam_home / "weights"
    folder.mkdir(parents=True)
    (folder / "academic.json").write_text(
        json.dumps(
            {
                "name": "academic",
                "decoder": "sam",
                "title": "For studies only",
                "licence": "CC-BY-NC-4.0",
                "prompts": ["point"],
                "non_commercial": True,
                "files": [{"name": "academic.pth"}],
            }
        )
    )
    line = refused("models", "download", "academic")
    assert "non-commercial" in line
    assert "--accept-licence" in line
    out = ("--out", prompts.with_name("o.geojson"))
    asked = ("segment", sample_slide_path, "--prompts", prompts, "--model", "academic", *out)
    assert "--accept-licence" in refused(*asked)
    assert "bring academic.pth" in refused("models", "download", "academic", "--accept-licence")
    assert "bring academic.pth" in refused(*asked)  # agreed to, once; now the file is wanted


# segment


def test_segment_to_geojson(histosam, sample_slide_path, prompts, tmp_path):
    target = tmp_path / "out.geojson"
    status, out, err = histosam(
        "segment", sample_slide_path, "--prompts", prompts, "--model", "classical",
        "--out", target, "--json",
    )  # fmt: skip
    told = json.loads(out)
    assert (status, err) == (0, "")
    assert told["objects"] == 3
    assert told["out"] == str(target)
    assert told["seconds"] > 0
    found = read(target).objects
    assert sorted(o.class_name or "" for o in found) == ["", "", "Nucleus"]
    nucleus = next(o for o in found if o.class_name == "Nucleus")
    assert nucleus.geometry.contains(shapely.Point(NUCLEUS))
    assert nucleus.provenance.model == "classical"
    assert nucleus.provenance.source == "prompted"
    feature = json.loads(target.read_text(encoding="utf-8"))["features"][0]
    assert feature["properties"]["objectType"] == "annotation"


def test_segment_to_a_table_and_to_labels(histosam, sample_slide_path, prompts, tmp_path):
    table, labels = tmp_path / "out.csv", tmp_path / "out.tif"
    for target in (table, labels):
        status, out, _ = histosam(
            "segment", sample_slide_path, "--prompts", prompts, "--out", target
        )
        assert status == 0
        assert str(target) in out
    with table.open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    image = tifffile.imread(labels)
    assert image.shape == (2967, 2220)
    assert image[int(NUCLEUS[1]), int(NUCLEUS[0])] > 0
    assert len(np.unique(image)) == 4


def test_segment_says_what_was_left_out(
    histosam, sample_slide_path, prompts, tmp_path, monkeypatch
):
    from napari_histosam.session import batch

    real = batch.segment
    monkeypatch.setattr(batch, "segment", lambda *a, **k: list(real(*a, **k))[:1])
    status, out, _ = histosam(
        "segment", sample_slide_path, "--prompts", prompts, "--out", tmp_path / "o.geojson"
    )
    assert status == 0
    assert "2 of 3 objects got an empty mask; left out." in out


def test_segment_refusals(refused, sample_slide_path, prompts, tmp_path):
    good = {
        "slide": sample_slide_path,
        "--prompts": prompts,
        "--out": tmp_path / "o.geojson",
    }

    def line(**changed):
        slide, *rest = {**good, **{k.replace("__", "--"): v for k, v in changed.items()}}.items()
        return refused("segment", slide[1], *[part for pair in rest for part in pair])

    assert "no file" in line(slide=tmp_path / "none.svs")
    text = tmp_path / "text.svs"
    text.write_text("a text")
    assert "text.svs" in line(slide=text)
    assert "no such file" in line(__prompts=tmp_path / "none.geojson")
    assert "not valid JSON" in line(__prompts=text)
    bad = tmp_path / "bad.geojson"
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Point", "coordinates": []},
    }
    bad.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert "Feature 1" in line(__prompts=bad)
    write_prompts([Prompt(shapely.Point(99999, 5), "positive", "far")], bad)
    assert "object far lies outside the slide" in line(__prompts=bad)
    write_prompts([Prompt(shapely.Point(9, 5), "negative", "no")], bad)
    assert "negative prompts only" in line(__prompts=bad)
    assert "No model is called 'nope'" in line(__model="nope")
    assert "not on this machine" in line(__model="mobile-sam")
    assert "no file" in line(__model="sam-vit-b", __weights=tmp_path / "none.pth")
    assert "is no checkpoint" in line(__weights=text)
    assert "classical has no weights" in line(__model="classical", __weights=text)
    assert "is not there" in line(__out=tmp_path / "nowhere" / "o.geojson")
    assert "is a folder" in line(__out=tmp_path)
    assert "suffix" in line(__out=tmp_path / "o.xyz")
    assert not (tmp_path / "o.geojson").exists()
    assert "required: --prompts" in refused("segment", sample_slide_path, "--out", "o.csv")


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 1)() == 0, reason="may write everywhere"
)
def test_segment_into_a_read_only_folder(refused, sample_slide_path, prompts, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    line = refused(
        "segment", sample_slide_path, "--prompts", prompts, "--out", folder / "o.geojson"
    )
    assert "may not be written" in line


def test_a_target_is_checked_before_the_work(refused, sample_slide_path, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    line = refused(
        "segment", sample_slide_path, "--prompts", "none", "--out", tmp_path / "o.geojson"
    )
    assert "may not be written" in line


# convert


@pytest.fixture
def objects(tmp_path):
    path = tmp_path / "in.geojson"
    write([SlideObject(geometry=shapely.box(10, 20, 40, 60), class_name="Tumor")], path)
    return path


def test_convert_between_formats(histosam, objects, tmp_path, sample_slide_path):
    target = tmp_path / "out.tif"
    status, out, _ = histosam("convert", objects, target, "--slide", sample_slide_path, "--json")
    assert status == 0
    assert json.loads(out)["objects"] == 1
    assert int((tifffile.imread(target) > 0).sum()) == 30 * 40
    back = tmp_path / "back.geojson"
    assert histosam("convert", target, back)[0] == 0
    assert read(back).objects[0].geometry.equals(shapely.box(10, 20, 40, 60))
    assert histosam("convert", objects, tmp_path / "o.csv")[0] == 0


def test_convert_refusals(refused, objects, tmp_path):
    assert "suffix" in refused("convert", objects, tmp_path / "o.xyz")
    assert "suffix" in refused("convert", tmp_path / "o.xyz", tmp_path / "o.geojson")
    assert "no such file" in refused("convert", tmp_path / "n.geojson", tmp_path / "o.geojson")
    assert "table without outlines" in refused(
        "convert", tmp_path / "n.csv", tmp_path / "o.geojson"
    )
    assert "open it" in refused("convert", objects, tmp_path / "o.tif")
    assert "no file" in refused("convert", objects, tmp_path / "o.csv", "--slide", "none.svs")
    assert "invalid choice" in refused("convert", objects, "o.geojson", "--origin", "moon")


def test_qupath_counts_from_a_slides_bounds(
    histosam, objects, tmp_path, sample_slide_path, monkeypatch
):
    bounds = (4, 7, 1000, 900)
    monkeypatch.setattr("napari_histosam.slide.slide.Slide.bounds", bounds)
    target = tmp_path / "out.geojson"

    def left():
        (feature,) = json.loads(target.read_text(encoding="utf-8"))["features"]
        return min(x for x, _ in feature["geometry"]["coordinates"][0])

    assert histosam("convert", objects, target, "--slide", sample_slide_path)[0] == 0
    assert left() == 10 - 4
    back = read(target, ExportContext(bounds=bounds)).objects[0]
    assert back.geometry.equals(shapely.box(10, 20, 40, 60))
    argv = ("convert", objects, target, "--slide", sample_slide_path, "--origin", "full-slide")
    assert histosam(*argv)[0] == 0
    assert left() == 10


# the command itself


def test_help_and_version(histosam):
    status, out, _ = histosam("--version")
    assert (status, out.strip()) == (0, f"histosam {__version__}")
    status, out, _ = histosam("--help")
    assert status == 0
    for name in ("app", "demo", "info", "models", "segment", "convert"):
        assert f"    {name} " in out
        assert histosam(name, "--help")[0] == 0


def test_lines_that_cannot_be_understood(refused):
    assert "required: COMMAND" in refused()
    assert "invalid choice" in refused("dance")
    assert "unrecognized arguments: --loud" in refused("models", "--loud")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyError("x"), 1, "histosam: unexpected KeyError: 'x' (--debug shows more)\n"),
        (HistosamError("It broke\nhere."), 1, "histosam: It broke here.\n"),
        (KeyboardInterrupt(), 130, "histosam: stopped; nothing half-done is left\n"),
    ],
)
def test_errors_are_one_line(refused, monkeypatch, error, status, line, sample_slide_path):
    def fail(_args):
        raise error

    monkeypatch.setattr("napari_histosam.cli.info._text", fail)
    assert refused("info", sample_slide_path, status=status) == line


def test_debug_shows_the_trace(histosam, monkeypatch, sample_slide_path):
    monkeypatch.setattr("napari_histosam.cli.info._text", lambda _facts: 1 / 0)
    status, _, err = histosam("info", sample_slide_path, "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


def test_what_a_library_prints_stays_out_of_the_json(histosam, monkeypatch, sample_slide_path):
    from napari_histosam.cli import info

    real = info._text

    def chatty(facts):
        print("hello from a library")  # noqa: T201
        return real(facts)

    monkeypatch.setattr("napari_histosam.cli.info._text", chatty)
    status, out, err = histosam("info", sample_slide_path, "--json")
    assert status == 0
    assert json.loads(out)["format"] == "aperio"
    assert "hello" in err


def test_a_slow_batch_shows_progress_to_people_only(capsys, monkeypatch):
    from napari_histosam.jobs import Progress

    segment._show_progress(Progress(1, 2, "Segmenting"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    segment._show_progress(Progress(2, 2, "Segmenting"))
    assert capsys.readouterr().err == "\rSegmenting 2 of 2\n"


# no display


@pytest.fixture
def no_display(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows always has a display")
def test_app_without_a_display(refused, no_display, sample_slide_path, monkeypatch):
    assert "no display" in refused("app", sample_slide_path)
    assert "no display" in refused("app")
    # Named, but nobody is there: Qt would end the process.
    monkeypatch.setenv("DISPLAY", ":4711")
    assert "no display" in refused("app")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-4711")
    assert "no display" in refused("app")


@pytest.mark.skipif(os.name == "nt", reason="Windows always has a display")
def test_a_display_on_another_machine_is_taken_at_its_word(no_display, monkeypatch):
    monkeypatch.setenv("DISPLAY", "localhost:10.0")
    assert display.has_display()


# as a process


def in_a_process(*argv, **more):
    return subprocess.run(
        [sys.executable, "-m", "napari_histosam", *map(str, argv)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        **more,
    )


def test_as_a_process(sample_slide_path, prompts, tmp_path):
    target = tmp_path / "out.geojson"
    done = in_a_process(
        "segment", sample_slide_path, "--prompts", prompts, "--out", target, "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["objects"] == 3
    done = in_a_process("info", tmp_path / "none.svs")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from napari_histosam.cli import main\n"
        "assert main(['--help']) == 0\n"
        "print(time.perf_counter() - start, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    seconds, *modules = done.stderr.split()
    assert float(seconds) < 1
    loaded = {name.partition(".")[0] for name in modules}
    assert not loaded & {"numpy", "torch", "shapely", "openslide", "napari", "cv2"}


def test_a_session_without_a_network_needs_no_torch(sample_slide_path):
    code = (
        "import sys; from napari_histosam import Session, open_slide\n"
        f"with open_slide({str(sample_slide_path)!r}) as slide:\n"
        "    session = Session(slide, model='classical')\n"
        "    session.add_point(1134, 2027.5)\n"
        "    assert session.accept()\n"
        "    session.close()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "timm", "napari", "qtpy"}
