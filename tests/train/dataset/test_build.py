"""A whole build: the layout, what it says of each object, and who can read it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.records import SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import open_store_for
from napari_histosam.train.dataset import rle
from napari_histosam.train.dataset.request import Annotated, Settings
from napari_histosam.train.dataset.splits import split_of
from napari_histosam.train.labelled import entries, find_sets, read_all

REGION = SlideObject(shapely.box(0, 0, 700, 600), "Region*", id="region")


def load(folder, name):
    return json.loads((folder / name).read_text("utf-8"))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "objects.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def objects(make_disc, make_prompted):
    """Objects of two classes and none, of two sizes, overlapping, and one that a click began."""
    return [
        make_prompted(100, 100, class_name="Nucleus"),
        make_disc(300, 120, class_name="Nucleus"),
        make_disc(310, 130, 10),
        make_disc(400, 380, 190, class_name="Gland"),
        make_disc(600, 40, class_name="Nucleus"),
    ]


@pytest.fixture
def built(lab, objects):
    """One slide's data set: its folder, its report, the slide."""
    slide = lab.annotated("a.png", 1, objects)
    done = lab.build(slide, licence="CC0, our own slides")
    return lab.root / "set", done, slide


def test_the_layout_is_that_of_labelled_folders(built):
    folder, done, _ = built
    assert {path.name for path in folder.iterdir()} == {
        "images",
        "masks",
        "ignore",
        "index.json",
        "splits.json",
        "objects.jsonl",
        "rejected.jsonl",
        "coco.json",
        "manifest.json",
    }
    index = load(folder, "index.json")
    assert index["n"] == len(index["items"]) == done.windows == done.added
    assert index["classes"] == {"Gland": 1, "Nucleus": 2}
    for item in index["items"]:
        assert item["mask_kind"] == "instance"
        image = cv2.imread(str(folder / item["image"]), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(folder / item["mask"]), cv2.IMREAD_UNCHANGED)
        ignore = cv2.imread(str(folder / item["ignore"]), cv2.IMREAD_UNCHANGED)
        assert image.dtype == ignore.dtype == np.uint8
        assert mask.dtype == np.uint16
        assert image.shape == (item["height"], item["width"], 3)
        assert mask.shape == ignore.shape == image.shape[:2]
        assert mask.max() == item["n_instances"] == len(item["classes"])
        assert set(np.unique(ignore)) <= {0, 255}
        assert (ignore[mask > 0] == 0).all()
        assert (ignore[mask == 0] == 255).all()  # no region was marked


def test_labelled_reads_it(built):
    folder, done, _ = built
    assert find_sets(folder) == [folder]
    assert entries(folder) == []  # one slide: all for training
    found = entries(folder, ["train"])
    assert len(found) == done.windows
    for entry, image, labels in read_all(found):
        assert image.shape[:2] == labels.shape
        assert labels.max() >= 1
        assert entry.mpp in (0.5, 1.0)
    renamed = folder.rename(folder.with_name("other"))
    assert entries(renamed) == []
    assert len(entries(renamed, ["train"])) == done.windows


def test_pictures_are_what_the_slide_shows(built):
    folder, _, slide = built
    with open_slide(slide) as opened:
        for item in load(folder, "index.json")["items"]:
            window = Window.from_dict(item["window"])
            image = cv2.imread(str(folder / item["image"]), cv2.IMREAD_COLOR_RGB)
            assert np.array_equal(image, opened.read(window))
            assert item["mpp"] == window.scale[0] * 0.5


def test_every_object_is_whole_at_home(built, objects):
    folder, done, _ = built
    assert done.objects == len(objects)
    items = {item["id"]: item for item in load(folder, "index.json")["items"]}
    homes = [line for line in lines_of(folder) if line["home"]]
    assert sorted(line["object"] for line in homes) == sorted(one.id for one in objects)
    by_id = {one.id: one for one in objects}
    for line in homes:
        item = items[line["image"]]
        one = by_id[line["object"]]
        assert line["whole"]
        assert line["class"] == item["classes"][str(line["number"])] == one.class_name
        mask = polygons_to_mask(one.geometry, Window.from_dict(item["window"]))
        labels = cv2.imread(str(folder / item["mask"]), cv2.IMREAD_UNCHANGED)
        own = labels == line["number"]
        assert line["area"] == mask.sum()
        assert line["visible"] == pytest.approx(own.sum() / mask.sum(), abs=1e-6)
        if line["visible"] == 1:
            assert np.array_equal(own, mask)
            assert "mask" not in line
        else:
            assert np.array_equal(rle.decode(line["mask"]), mask)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert line["box"] == box
    # The gland is 380 px long, and a window has 240 px of room.
    coarse = {items[line["image"]]["mpp"] for line in homes if line["class"] == "Gland"}
    assert coarse == {1.0}


def test_what_a_model_said_first_is_kept(built, make_prompted):
    folder, _, _ = built
    one = make_prompted(100, 100)
    made = one.provenance
    (line,) = [x for x in lines_of(folder) if x["object"] == one.id and x["home"]]
    (item,) = [x for x in load(folder, "index.json")["items"] if x["id"] == line["image"]]
    window = Window.from_dict(item["window"])
    assert (line["source"], line["model"], line["weights"]) == ("prompted", "histosam-small", "abc")
    assert line["score"] == 0.75
    both = made.first_mask.intersection(one.geometry).area
    iou = both / (made.first_mask.area + one.geometry.area - both)
    assert line["first_iou"] == pytest.approx(iou, abs=1e-6)
    first = rle.decode(line["first"])
    assert np.array_equal(first, polygons_to_mask(made.first_mask, window))
    accepted = polygons_to_mask(one.geometry, window)
    assert (first & accepted).sum() / (first | accepted).sum() == pytest.approx(iou, abs=0.02)
    click, negative, scribble, box, mask = line["prompts"]
    assert click == {
        "role": "positive",
        "kind": "point",
        "xy": window.from_level0([[100, 100]]).tolist(),
    }
    assert (negative["role"], scribble["kind"], len(scribble["xy"])) == ("negative", "scribble", 2)
    assert box["box"] == window.from_level0([[80, 80], [120, 120]]).ravel().tolist()
    assert rle.decode(mask["mask"]).sum() == 64
    (plain,) = [x for x in lines_of(folder) if x["object"].endswith("000600000040") and x["home"]]
    assert plain["first"] is plain["first_iou"] is plain["score"] is plain["model"] is None
    assert plain["prompts"] == []


def test_coco_says_the_same(built):
    folder, _, _ = built
    coco = load(folder, "coco.json")
    items = {item["image"]: item for item in load(folder, "index.json")["items"]}
    assert [one["name"] for one in coco["categories"]] == ["unclassified", "Gland", "Nucleus"]
    assert [one["id"] for one in coco["categories"]] == [0, 1, 2]
    assert coco["licenses"][0]["name"] == "CC0, our own slides"
    assert [one["id"] for one in coco["annotations"]] == [*range(1, len(coco["annotations"]) + 1)]
    assert len(coco["annotations"]) == len(lines_of(folder))
    for image in coco["images"]:
        item = items[image["file_name"]]
        labels = cv2.imread(str(folder / item["mask"]), cv2.IMREAD_UNCHANGED)
        covered = np.zeros(labels.shape, bool)
        for one in (x for x in coco["annotations"] if x["image_id"] == image["id"]):
            mask = rle.decode(one["segmentation"])
            assert mask.shape == (image["height"], image["width"])
            assert mask.sum() == one["area"]
            x, y, w, h = one["bbox"]
            assert mask[y : y + h, x : x + w].sum() == one["area"]
            covered |= mask
        assert np.array_equal(covered, labels > 0)


def test_the_manifest_tells_and_its_hashes_hold(built):
    folder, done, slide = built
    manifest = load(folder, "manifest.json")
    assert (manifest["format"], manifest["version"]) == ("histosam-dataset", 1)
    assert manifest["licence"] == "CC0, our own slides"
    assert manifest["settings"]["seed"] == 0
    assert manifest["scale"]["mpp"] == done.mpp == 0.5
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    (one,) = manifest["slides"]
    with open_slide(slide) as opened:
        assert one["identity"] == opened.identity
    assert (one["name"], one["mpp"], one["split"]) == ("a.png", [0.5, 0.5], "train")
    assert (one["windows"], one["objects"]) == (done.windows, done.objects)
    assert manifest["counts"]["train"]["by_class"] == one["by_class"]
    assert one["by_class"] == [
        {"class": "Gland", "objects": 1},
        {"class": "Nucleus", "objects": 3},
        {"class": None, "objects": 1},
    ]
    assert str(slide.parent) not in (folder / "manifest.json").read_text("utf-8")


def test_regions_are_known_and_give_background(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100), REGION])
    done = lab.build(slide, background=2)
    items = load(lab.root / "set", "index.json")["items"]
    assert [item["background"] for item in items] == [False, True, True]
    assert done.objects == 1
    for item in items:
        assert not cv2.imread(str(lab.root / "set" / item["ignore"]), cv2.IMREAD_UNCHANGED).any()
    assert lab.build(slide, background=0).windows == 1


def test_objects_that_are_of_no_use_are_counted(lab, make_disc):
    point = SlideObject(shapely.Point(5, 5))
    far = SlideObject(shapely.box(900, 0, 950, 50))
    twin = make_disc(100, 100, id="twin")
    done = lab.build(lab.annotated("a.png", 1, [make_disc(100, 100), twin, point, far]))
    assert done.objects == 1
    told = " ".join(done.warnings)
    for said in ("1 points, lines", "1 outlines outside", "1 objects that are too small"):
        assert f"Left out: {said}" in told


def test_odd_names_of_classes_and_slides(lab, make_disc):
    name = 'T\u00fcmor\u2028"\u6838\\ *: 1'
    slide = lab.annotated("a [1] \u6838.png", 1, [make_disc(100, 100, class_name=name)])
    for _ in range(2):
        assert lab.build(slide).classes == {name: 1}
    (line,) = (x for x in (lab.root / "set" / "objects.jsonl").read_text("utf-8").split("\n") if x)
    assert json.loads(line)["class"] == name
    away = lab.root / "away"
    away.mkdir()
    slide.rename(away / slide.name)
    store = slide.with_name(f"{slide.name}.histosam.sqlite")
    assert lab.build(store, look_in=(away,)).kept == 1


def test_a_store_that_another_window_edits_is_read(lab, make_disc):
    slide = lab.slide("a.png")
    with open_slide(slide) as opened, open_store_for(slide, opened.identity, "a.png") as store:
        store.add([make_disc(100, 100)])
        assert lab.build(slide).objects == 1
        store.add([make_disc(300, 300)])
        assert lab.build(slide).objects == 2


def test_sources_without_an_object_are_refused(lab, tmp_path):
    slide = lab.annotated("a.png", 1, [SlideObject(shapely.Point(5, 5)), REGION])
    with pytest.raises(InputError, match=r"no object to learn from on a\.png \(only 1 points"):
        lab.build(slide)
    assert not (lab.root / "set").exists()
    with pytest.raises(InputError, match="nothing to build from"):
        lab.build()


def test_a_slide_without_scale_is_cut_in_its_own_px(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100), make_disc(500, 300)], mpp=None)
    done = lab.build(slide, mpp=None, object_px=(36, 300))
    items = load(lab.root / "set", "index.json")["items"]
    assert {item["mpp"] for item in items} == {None}
    assert {tuple(item["window"]["scale"]) for item in items} == {(1.0, 1.0)}
    assert done.mpp is None
    assert "1 level-0 px per px" in done.scale
    assert load(lab.root / "set", "manifest.json")["scale"] == {
        "mpp": None,
        "px": 1.0,
        "why": done.scale,
    }
    assert len(entries(lab.root / "set", ["train"])) == done.windows


def test_the_shipped_slide_and_an_annotation_file(lab, sample_slide_path, tmp_path, make_disc):
    from napari_histosam.exchange import write

    path = tmp_path / "a.geojson"
    write([make_disc(1000, 1000, 15, class_name="Nucleus"), make_disc(2215, 2960, 12)], path)
    pair = Annotated(sample_slide_path, path)
    done = lab.build(annotated=(pair,), mpp=None)
    assert (done.objects, done.mpp) == (2, 0.25)
    for item in load(lab.root / "set", "index.json")["items"]:
        image = cv2.imread(str(lab.root / "set" / item["image"]))
        assert image.std() > 1
    before = (lab.root / "set" / "manifest.json").read_bytes()
    assert lab.build(annotated=(pair,), mpp=None).kept == done.windows
    assert (lab.root / "set" / "manifest.json").read_bytes() == before


def test_slides_are_split_by_identity_or_patient(lab, make_disc):
    slides = [lab.annotated(f"s{n}.png", n, [make_disc(100, 100)]) for n in range(8)]
    lab.build(*slides, val=0.3, test=0.3)
    folder = lab.root / "set"
    told = {one["name"]: one for one in load(folder, "manifest.json")["slides"]}
    for one in told.values():
        if one["why"] == "hash":
            assert one["split"] == split_of(one["identity"], 0, 0.3, 0.3)
    listed = load(folder, "splits.json")["sets"]["set"]
    assert list(listed) == ["train", "val", "test"]
    split_by_id = {item["id"]: item["split"] for item in load(folder, "index.json")["items"]}
    assert {name: split for split in listed for name in listed[split]} == split_by_id
    held = {entry.name for entry in entries(folder)}
    assert held == {*listed["val"], *listed["test"]}

    patients = {f"s{n}": f"Patient {n // 4}" for n in range(8)}
    done = lab.build(*slides, out="patients", patients=patients)
    text = (lab.root / "patients" / "manifest.json").read_text("utf-8")
    found = {one["name"]: one for one in json.loads(text)["slides"]}
    for first in (0, 4):
        assert len({found[f"s{n}.png"]["split"] for n in range(first, first + 4)}) == 1
    assert {one["split"] for one in found.values()} == {"train", "val"}
    assert "Patient" not in text
    assert "No patient fell to the test set" in " ".join(done.lacking)
    told = lab.build(*slides, out="some", patients={"s1": "Ann"}).warnings
    assert sum("No patient is named" in one for one in told) == 7


def test_what_is_lacking_is_said(lab, make_disc):
    one = lab.annotated("a.png", 1, [make_disc(100, 100)])
    assert "one slide only, and all of it is for training" in lab.build(one).lacking[0]
    two = lab.annotated("b.png", 2, [make_disc(100, 100, class_name="Rare")])
    done = lab.build(one, two)
    assert done.counts["train"]["slides"] == done.counts["val"]["slides"] == 1
    assert any("No slide fell to the test set" in said for said in done.lacking)
    assert any("The class Rare is in no slide that is trained on" in said for said in done.lacking)
    assert any("b.png went to val, since there are too few" in said for said in done.warnings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 8}, "window of 8 px"),
        ({"mpp": 0}, "0 µm per px"),
        ({"mpp": float("nan")}, "nan µm per px"),
        ({"val": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"val": -0.1}, "negative"),
        ({"background": -1}, "background windows"),
        ({"object_px": (30, 3)}, "not possible"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Settings(**wrong)


def test_a_broken_slide_is_refused_and_leaves_nothing(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])
    store = Path(shutil.copy(f"{slide}.histosam.sqlite", lab.root / "copy.sqlite"))
    assert lab.build(store, out="other").objects == 1  # the store knows the slide's name
    slide.write_bytes(slide.read_bytes()[:300])
    with pytest.raises(InputError, match=r"a\.png is damaged"):
        lab.build(slide)
    slide.unlink()
    with pytest.raises(InputError, match=r"The slide a\.png of .*copy\.sqlite is not there"):
        lab.build(store)
    assert not (lab.root / "set").exists()
