"""``histosam patches``: labels in and out of a store, and the data set that is made of them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.slide import open_slide
from napari_histosam.store import ObjectStore, PatchBook
from napari_histosam.store.places import beside

SCALE = ["--mpp", "1.0", "--size", "128"]


def call(capsys, *arguments) -> dict:
    status = main([*map(str, arguments), "--json"])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return json.loads(shown.out)


def refused(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def slides(sample_slide_path: Path, tmp_path: Path) -> list[Path]:
    """Three slides: the sample, and two TIFFs cut from it."""
    folder = tmp_path / "slides"
    folder.mkdir()
    made = [Path(shutil.copy(sample_slide_path, folder / "a.svs"))]
    with open_slide(sample_slide_path) as whole:
        for name, left in (("b.tif", 200), ("c.tif", 700)):
            pixels = np.asarray(whole.read_region(left, 900, 0, 1200, 1200))
            Image.fromarray(pixels).save(folder / name, dpi=(50900, 50900))
            made.append(folder / name)
    return made


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    rows = [
        f"{column},{row},{'tumour' if column < 2 else 'normal'}"
        for column in range(4)
        for row in range(4)
    ]
    path.write_text("column,row,label\n" + "\n".join(rows))
    return path


def test_in_out_and_in_again(capsys, slides, table, tmp_path) -> None:
    found = call(capsys, "patches", slides[0], "--import", table, *SCALE)
    assert (found["tumour"], found["normal"], found["changed"]) == (8, 8, 16)
    assert found["sizes"][0]["um"] == 128
    with ObjectStore.open(beside(slides[0])) as store:
        labels = PatchBook(store).all()
        assert store.undo_label == "Import patch labels"
    out = tmp_path / "out.csv"
    assert call(capsys, "patches", slides[0], "--out", out)["tumour"] == 8
    assert out.read_text().splitlines()[0] == "slide,x,y,size,label,author,time"
    with ObjectStore.open(beside(slides[0])) as store:
        store.undo()
        assert PatchBook(store).all() == []
    assert call(capsys, "patches", slides[0], "--import", out)["changed"] == 16
    with ObjectStore.open(beside(slides[0])) as store:
        assert PatchBook(store).all() == labels
    # The same once more changes nothing, and so is no step.
    assert call(capsys, "patches", slides[0], "--import", table, *SCALE)["changed"] == 0
    assert main(["patches", str(slides[0])]) == 0
    assert "8 tumour, 8 normal" in capsys.readouterr().out


def test_regions_of_named_classes(capsys, slides, tmp_path) -> None:
    ring = [[0, 0], [600, 0], [600, 600], [0, 600], [0, 0]]
    path = tmp_path / "r.geojson"
    path.write_text(
        json.dumps(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"classification": {"name": "Gland"}},
            }
        )
    )
    assert "say which of them" in refused(capsys, "patches", slides[0], "--import", path)
    found = call(capsys, "patches", slides[0], "--import", path, "--tumour", "Gland", *SCALE)
    assert (found["tumour"], found["normal"]) == (4, 0)
    said = refused(
        capsys, "patches", slides[0], "--import", path, "--tumour", "Gland", "--normal", "Gland"
    )
    assert "cannot mean both" in said


def test_a_data_set_of_three_slides(capsys, slides, table, tmp_path) -> None:
    for slide in slides:
        call(capsys, "patches", slide, "--import", table, *SCALE)
    out = tmp_path / "data"
    found = call(capsys, "patches", *slides, "--dataset", out, *SCALE)
    assert (found["slides"], found["patches"], found["added"]) == (3, 48, 48)
    items = json.loads((out / "index.json").read_text())["items"]
    assert Counter(item["label"] for item in items) == {"tumour": 24, "normal": 24}
    assert not any("mask" in item for item in items)
    # Every picture is exactly what the slide shows there.
    by_identity = {}
    for slide in slides:
        with open_slide(slide) as opened:
            by_identity[opened.identity] = slide
    for item in items:
        with open_slide(by_identity[item["slide"]]) as opened:
            window = item["window"]
            wanted = opened.read_window(window["cx"], window["cy"], 1.0, 128)
            pixels = cv2.imread(str(out / item["image"]), cv2.IMREAD_COLOR)[..., ::-1]
            assert np.array_equal(pixels, wanted)
            assert item["mpp"] == 1.0
            column = int(window["cx"] * opened.mpp[0] // 128)
            assert item["label"] == ("tumour" if column < 2 else "normal")
    # Whole slides are held out, and the listed splits are those of the items.
    assert {item["group"]: item["split"] for item in items}.keys() == by_identity.keys()
    listed = json.loads((out / "splits.json").read_text())["sets"]["data"]
    for item in items:
        assert item["id"] in listed[item["split"]]
    assert len({item["split"] for item in items}) > 1

    # After a change of labels only what is new is written, and slides stay where they were.
    more = tmp_path / "more.csv"
    more.write_text("column,row,label\n0,0,normal\n4,4,normal\n")
    call(capsys, "patches", slides[0], "--import", more, *SCALE)
    again = call(capsys, "patches", *slides, "--dataset", out, *SCALE)
    assert (again["patches"], again["added"], again["kept"], again["removed"]) == (49, 1, 48, 0)
    now = json.loads((out / "index.json").read_text())["items"]
    assert {i["slide"]: i["split"] for i in now} == {i["slide"]: i["split"] for i in items}
    same = {path.name: path.read_bytes() for path in out.glob("*.json")}
    call(capsys, "patches", *slides[::-1], "--dataset", out, *SCALE)
    assert same == {path.name: path.read_bytes() for path in out.glob("*.json")}


def test_patients_are_never_split(capsys, slides, table, tmp_path) -> None:
    for slide in slides:
        call(capsys, "patches", slide, "--import", table, *SCALE)
    named = ["--patients", "a=x", "b.tif=x"]
    call(capsys, "patches", *slides, "--dataset", tmp_path / "d", *SCALE, *named)
    items = json.loads((tmp_path / "d" / "index.json").read_text())["items"]
    groups = {item["slide_name"]: item["group"] for item in items}
    assert groups["a.svs"] == groups["b.tif"] != groups["c.tif"]
    assert groups["a.svs"].startswith("patient-")
    assert len({i["split"] for i in items if i["slide_name"] != "c.tif"}) == 1


def test_of_one_slide_a_part_is_held_out(capsys, slides, tmp_path) -> None:
    path = tmp_path / "many.csv"
    rows = [f"{x},{y},{'tumour' if (x // 4) % 2 else 'normal'}" for x in range(8) for y in range(9)]
    path.write_text("column,row,label\n" + "\n".join(rows))
    call(capsys, "patches", slides[0], "--import", path, *SCALE)
    found = call(capsys, "patches", slides[0], "--dataset", tmp_path / "one", *SCALE)
    assert "how good the model is on another slide is not known" in found["warnings"][-1]
    assert found["splits"]["test"] == {"tumour": 0, "normal": 0}
    for split in ("train", "val"):
        assert min(found["splits"][split].values()) > 0
    assert sum(found["splits"]["val"].values()) < sum(found["splits"]["train"].values())
    items = json.loads((tmp_path / "one" / "index.json").read_text())["items"]
    held = {item["group"] for item in items if item["split"] == "val"}
    assert not held & {item["group"] for item in items if item["split"] == "train"}
    # What was held out stays so when more is labelled.
    path.write_text("column,row,label\n8,0,tumour\n8,8,normal\n")
    call(capsys, "patches", slides[0], "--import", path, *SCALE)
    call(capsys, "patches", slides[0], "--dataset", tmp_path / "one", *SCALE)
    now = json.loads((tmp_path / "one" / "index.json").read_text())["items"]
    splits = {item["id"]: item["split"] for item in now}
    assert all(splits[item["id"]] == item["split"] for item in items)


def test_refusals(capsys, slides, table, tmp_path) -> None:
    out = tmp_path / "data"
    assert "No patch of" in refused(capsys, "patches", slides[0], "--dataset", out, *SCALE)
    call(capsys, "patches", slides[0], "--import", table, *SCALE)
    said = refused(capsys, "patches", slides[0], "--dataset", out, "--size", "256")
    assert "no labels of patches of 64 µm" in said
    assert not out.exists()
    only = tmp_path / "only.csv"
    only.write_text("column,row,label\n0,0,tumour\n")
    call(capsys, "patches", slides[1], "--import", only, *SCALE)
    said = refused(capsys, "patches", slides[1], "--dataset", out, *SCALE)
    assert "No patch is labelled normal" in said
    said = refused(capsys, "patches", slides[0], "--dataset", out, *SCALE, "--out", "x.csv")
    assert "a call of their own" in said
    assert "one slide at a time" in refused(capsys, "patches", *slides[:2])
    assert "is no scale" in refused(capsys, "patches", slides[0], "--import", table, "--mpp", "-1")
    out.mkdir()
    (out / "manifest.json").write_text('{"format": "histosam-dataset", "version": 1}')
    said = refused(capsys, "patches", slides[0], "--dataset", out, *SCALE)
    assert "another kind of data set" in said


def test_a_picture_without_micrometres_counts_its_own_px(capsys, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    path = tmp_path / "in.csv"
    path.write_text("x,y,size,label\n0,0,64,1\n64,128,64,0\n")
    call(capsys, "patches", tmp_path / "plain.png", "--import", path)
    said = refused(capsys, "patches", tmp_path / "plain.png", "--dataset", "d", "--mpp", "1")
    assert "leave --mpp away" in said
    call(capsys, "patches", tmp_path / "plain.png", "--dataset", tmp_path / "d", "--size", "64")
    items = json.loads((tmp_path / "d" / "index.json").read_text())["items"]
    found = cv2.imread(str(tmp_path / "d" / items[1]["image"]))[..., ::-1]
    assert np.array_equal(found, pixels[128:192, 64:128])
    assert items[1]["mpp"] is None
