"""``histosam predict``: whole, stopped, killed and resumed; and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.exchange import read

ROI = "700,1400,600,600"


@pytest.fixture
def histosam(capsys):
    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def outlines(path) -> list[str]:
    return sorted(o.geometry.wkt for o in read(path).objects)


def test_it_writes_the_nuclei_of_a_region(histosam, sample_slide_path, tmp_path):
    out = tmp_path / "found.geojson"
    argv = ("predict", sample_slide_path, "--model", "classical", "--roi", ROI, "--json")
    status, told, err = histosam(*argv, "--out", out)
    assert status == 0, err
    result = json.loads(told)
    found = read(out).objects
    assert result["objects"] == len(found) > 100
    assert result["out"] == str(out)
    assert result["seconds"] > 0
    assert {o.class_name for o in found} == {"Nucleus"}
    assert list(tmp_path.glob("found.geojson*")) == [out]  # nothing is left beside it

    least = sorted(o.provenance.score or 0 for o in found)[-20]
    status, told, err = histosam(
        *argv, "--score", least, "--class", "Mine", "--out", tmp_path / "few.geojson"
    )
    assert json.loads(told)["objects"] == 20
    assert {o.class_name for o in read(tmp_path / "few.geojson").objects} == {"Mine"}


def test_a_killed_run_goes_on_and_writes_the_same(histosam, sample_slide_path, tmp_path):
    whole, cut = tmp_path / "whole.geojson", tmp_path / "cut.geojson"
    argv = ["predict", str(sample_slide_path), "--model", "classical", "--json"]
    argv += ["--roi", "500,1300,1500,900", "--out"]  # four tiles
    status, _, err = histosam(*argv, whole)
    assert status == 0, err
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_histosam", *argv, str(cut)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    part = tmp_path / "cut.geojson.part"
    try:
        _wait(lambda: part.exists() and _tiles(part) >= 1, process)
    finally:
        process.kill()
        process.communicate()
    assert not cut.exists()
    assert 0 < _tiles(part) < 4
    status, told, err = histosam(*argv, cut)
    assert status == 0, err
    result = json.loads(told)
    assert result["slides"][0]["resumed"]
    assert outlines(cut) == outlines(whole)
    assert not part.exists()


def test_several_slides_go_into_a_folder(histosam, tmp_path):
    for name, grey in (("glass", 240), ("grey", 232)):
        Image.fromarray(np.full((300, 300, 3), grey, np.uint8)).save(tmp_path / f"{name}.png")
    slides = [tmp_path / "glass.png", tmp_path / "grey.png"]
    out = tmp_path / "out"
    status, told, err = histosam("predict", *slides, "--model", "classical", "--out", out, "--json")
    assert status == 0, err
    result = json.loads(told)
    assert result["objects"] == 0
    assert [row["objects"] for row in result["slides"]] == [0, 0]
    assert "only glass" in result["slides"][0]["text"]
    assert any("µm per pixel are not known" in text for text in result["warnings"])
    assert sorted(p.name for p in out.iterdir()) == ["glass.geojson", "grey.geojson"]
    assert read(out / "glass.geojson").objects == []


def test_bad_orders_are_refused_in_one_line(histosam, sample_slide_path, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(sample_slide_path, copy / sample_slide_path.name)
    twice = (sample_slide_path, copy / sample_slide_path.name)
    slide, out = (sample_slide_path,), ("--out", tmp_path / "x.geojson")
    classical = ("--model", "classical")
    for argv, words in (
        ((*slide, "--model", "histosam-small", *out), "needs prompts and finds nothing by itself"),
        ((*slide, "--model", "nobody", *out), "No model is called"),
        ((*slide, *classical, "--roi", "1,2,3", *out), "four numbers"),
        ((*slide, *classical, "--roi", "9000,0,10,10", *out), "lies outside"),
        ((*slide, *classical, "--score", "2", *out), "from 0 to 1"),
        ((*slide, *classical, "--out", tmp_path / "no" / "x.geojson"), "is not there"),
        ((*slide, *classical, "--out", tmp_path / "x.xyz"), "xyz"),
        ((tmp_path / "none.svs", *classical, *out), "none.svs"),
        ((*twice, *classical, "--out", tmp_path / "two"), "Two of the slides"),
    ):
        status, told, err = histosam("predict", *argv)
        assert status == 2, err
        assert told == ""
        assert words in err
        assert err.count("\n") == 1
    assert not (tmp_path / "x.geojson.part").exists()


def test_a_run_for_something_else_begins_anew(histosam, sample_slide_path, tmp_path):
    from napari_histosam import open_slide
    from napari_histosam.store import ObjectStore, RunJournal

    out = tmp_path / "x.geojson"
    part = tmp_path / "x.geojson.part"
    with open_slide(sample_slide_path) as slide:
        with ObjectStore.open(part, slide_identity=slide.identity) as store:
            RunJournal(store).begin("another", "Another", {})
    argv = ("predict", sample_slide_path, "--model", "classical", "--roi", "600,1300,300,300")
    status, _, err = histosam(*argv, "--out", out)
    assert status == 0, err
    assert not part.exists()


def _tiles(part) -> int:
    import sqlite3

    try:
        with sqlite3.connect(f"file:{part}?mode=ro", uri=True) as con:
            return int(con.execute("SELECT count(*) FROM run_tiles").fetchone()[0])
    except sqlite3.Error:
        return 0


def _wait(done, process) -> None:
    end = time.monotonic() + 90
    while not done():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.02)
