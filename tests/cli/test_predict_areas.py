"""``histosam predict`` with a model that maps regions: areas, map, resuming, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.exchange import read
from napari_histosam.session.regions import RegionMap, about_folder
from napari_histosam.slide import open_slide
from region_tints import Tinter, landscape, offer

TINTER = ("--model", "tinter", "--json")


@pytest.fixture
def histosam(capsys):
    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def model(monkeypatch):
    made = Tinter(classes=("Tumour", "Stroma"))
    offer(monkeypatch, made)
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, seed in (("one", 1), ("two", 2)):
        Image.fromarray(landscape(900, 700, seed)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def slides(pictures):
    paths = [pictures / "one.png", pictures / "two.png"]
    for path in paths:
        with open_slide(path) as slide:
            slide.set_mpp(1.0)
    return paths


def test_areas_and_their_shares(histosam, model, slides, tmp_path):
    out = tmp_path / "areas.geojson"
    status, told, err = histosam("predict", slides[0], *TINTER, "--out", out)
    assert status == 0, err
    result = json.loads(told)
    found = read(out).objects
    assert result["objects"] == len(found) > 2
    assert {o.class_name for o in found} == {"Tumour", "Stroma"}
    assert {o.object_type for o in found} == {"annotation"}
    assert all(0.5 <= o.provenance.score <= 1 for o in found)
    for name, area in result["areas"].items():
        mine = sum(o.geometry.area for o in found if o.class_name == name)
        assert area["um2"] == pytest.approx(mine, rel=0.02)
        assert 0 < area["fraction"] < 1
    assert list(tmp_path.glob("areas.geojson*")) == [out]

    few = ("--threshold", "0.6", "--smooth-um", "9", "--least-um2", "9000", "--class", "Mine")
    status, told, err = histosam("predict", slides[0], *TINTER, *few, "--out", out)
    assert status == 0, err
    assert 0 < json.loads(told)["objects"] < result["objects"]
    assert {o.class_name for o in read(out).objects} == {"Mine"}


def test_the_map_is_kept_and_serves_again(histosam, model, slides, tmp_path):
    out, maps = tmp_path / "a.geojson", tmp_path / "maps"
    argv = ("predict", slides[0], *TINTER, "--map", maps, "--out", out)
    status, told, err = histosam(*argv)
    assert status == 0, err
    found = RegionMap(maps / "one.ome.zarr")
    assert json.loads(told)["slides"][0]["map"] == str(found.folder)
    assert found.finished
    seen = model.seen
    status, told, err = histosam(*argv, "--threshold", "0.7")
    assert status == 0, err
    assert model.seen == seen
    status, told, err = histosam(*argv, "--roi", "0,0,300,300")
    assert status == 2
    assert "holds another map" in err


def test_a_stopped_run_goes_on(histosam, model, slides, tmp_path):
    whole, cut = tmp_path / "whole.geojson", tmp_path / "cut.geojson"
    assert histosam("predict", slides[0], *TINTER, "--out", whole)[0] == 0
    tiles = model.seen

    def interrupt(number):
        if number == tiles + 5:
            raise KeyboardInterrupt

    model.hook = interrupt
    argv = ("predict", slides[0], *TINTER, "--out", cut)
    assert histosam(*argv)[0] not in (0, 1, 2)
    assert not cut.exists()
    part = tmp_path / "cut.geojson.part"
    assert about_folder(part)["finished"] is False
    model.hook = lambda number: None
    model.seen = 0
    status, told, err = histosam(*argv)
    assert status == 0, err
    assert json.loads(told)["slides"][0]["resumed"]
    assert model.seen == tiles - 5
    first, second = (sorted(o.geometry.wkt for o in read(p).objects) for p in (whole, cut))
    assert first == second
    assert not part.exists()

    # What was asked for is something else: the run begins anew, be it of the same kind or not.
    model.hook = interrupt
    model.seen = tiles
    assert histosam(*argv)[0] not in (0, 1, 2)
    model.hook = lambda number: None
    assert part.is_dir()
    assert histosam(*argv, "--roi", "0,0,500,500")[0] == 0
    assert not part.exists()


def test_several_slides_and_bare_glass(histosam, model, slides, tmp_path):
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(tmp_path / "glass.png")
    out = tmp_path / "out"
    argv = ("predict", *slides, tmp_path / "glass.png", *TINTER, "--map", out, "--out", out)
    status, told, err = histosam(*argv)
    assert status == 0, err
    result = json.loads(told)
    assert [row["objects"] > 0 for row in result["slides"]] == [True, True, False]
    assert "only glass" in result["slides"][2]["text"]
    assert result["areas"]["Tumour"]["um2"] is None  # the glass has no scale
    fractions = [row["areas"]["Tumour"]["fraction"] for row in result["slides"][:2]]
    assert min(fractions) <= result["areas"]["Tumour"]["fraction"] <= max(fractions)
    assert read(out / "glass.geojson").objects == []
    assert (out / "two.ome.zarr").is_dir()


def test_orders_that_do_not_fit_the_model_are_refused(histosam, model, slides, tmp_path):
    out = ("--out", tmp_path / "x.geojson")
    classical = ("--model", "classical")
    for argv, words in (
        ((*TINTER, "--score", "0.5"), "--threshold"),
        ((*TINTER, "--threshold", "0"), "threshold"),
        ((*TINTER, "--smooth-um", "much"), "or off"),
        ((*TINTER, "--smooth-um", "-3"), "smoothed"),
        ((*TINTER, "--least-um2", "-1"), "least size"),
        ((*classical, "--threshold", "0.4"), "classical finds objects"),
        ((*classical, "--map", tmp_path), "classical finds objects"),
        (("--model", "histosam-small"), "needs prompts"),
        (("--model", "sam-lung"), "sam-lung"),
    ):
        status, told, err = histosam("predict", slides[0], *argv, *out)
        assert status == 2, err
        assert told == ""
        assert words in err
        assert err.count("\n") == 1
    assert list(tmp_path.glob("x.geojson*")) == []


def test_points_and_boxes_pick_areas(histosam, model, slides, tmp_path):
    out = tmp_path / "areas.geojson"
    assert histosam("predict", slides[0], *TINTER, "--out", out)[0] == 0
    found = read(out).objects
    wanted, unwanted = found[0], found[1]
    inside = wanted.geometry.representative_point()
    away = unwanted.geometry.representative_point()
    marks = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [p.x, p.y]},
         "properties": {"object": "1", "role": role}}
        for p, role in ((inside, "positive"), (away, "negative"))
    ]  # fmt: skip
    prompts = tmp_path / "p.geojson"
    for kept, count in ((marks[:1], 1), (marks[1:], len(found) - 1)):
        prompts.write_text(json.dumps({"type": "FeatureCollection", "features": kept}), "utf-8")
        status, told, err = histosam("predict", slides[0], *TINTER, "--out", out, "--pick", prompts)
        assert status == 0, err
        assert json.loads(told)["objects"] == count
    status, _, err = histosam("predict", *slides, *TINTER, "--out", tmp_path, "--pick", prompts)
    assert status == 2
    assert "one slide at a time" in err
    status, _, err = histosam(
        "segment", slides[0], "--model", "tinter", "--prompts", prompts, "--out", out
    )
    assert status == 2
    assert "--pick" in err
