"""What a review teaches: what counts as truth, what is marked, and what is listed as wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.errors import InputError
from napari_histosam.records import Provenance, Review, SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.store import ObjectStore, open_store_for

AUTOMATIC = Provenance("automatic", model="seer", weights_hash="abc", score=0.42)
YES, MENDED = Review("accepted", "Ada"), Review("corrected", "Ada")


def lines_of(folder, name="objects.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


@pytest.fixture
def objects(make_disc):
    return [
        make_disc(100, 100, class_name="Nucleus", provenance=AUTOMATIC, review=YES),
        make_disc(200, 100, class_name="Nucleus", provenance=AUTOMATIC),
        make_disc(300, 100, class_name="Nucleus", provenance=AUTOMATIC, review=MENDED),
        make_disc(400, 100, class_name="Nucleus"),
        make_disc(500, 100, class_name="Nucleus", provenance=Provenance("imported"), review=YES),
        make_disc(600, 100, class_name="Nucleus", provenance=AUTOMATIC),
    ]


@pytest.fixture
def slide(lab, objects):
    """A slide whose last object was rejected."""
    path = lab.annotated("a.png", 1, objects)
    with open_slide(path) as opened:
        with open_store_for(path, opened.identity, opened.name) as store:
            store.reject([objects[-1].id])
    return path


def test_accepted_and_corrected_automatic_objects_are_truth(lab, slide, objects):
    done = lab.build(slide)
    homes = {line["object"]: line for line in lines_of(lab.root / "set") if line["home"]}
    assert set(homes) == {objects[i].id for i in (0, 2, 3, 4)}
    said = {objects[i].id: r for i, r in enumerate(["accepted", 0, "corrected", None, "accepted"])}
    assert {key: line["review"] for key, line in homes.items()} == {k: said[k] for k in homes}
    assert "Left out: 1 automatic objects that nobody accepted" in " ".join(done.warnings)


def test_reviewed_only_takes_nothing_else_and_knows_nothing_of_the_rest(lab, slide, objects):
    region = SlideObject(shapely.box(0, 0, 700, 600), "Region*", id="region")
    with open_slide(slide) as opened:
        with open_store_for(slide, opened.identity, opened.name) as store:
            store.add([region])
    done = lab.build(slide, reviewed_only=True)
    folder = lab.root / "set"
    homes = {line["object"]: line for line in lines_of(folder) if line["home"]}
    assert set(homes) == {objects[i].id for i in (0, 2, 4)}
    assert done.objects == 3
    assert "2 objects that nobody has reviewed" in " ".join(done.warnings)
    # The unreviewed ones lie in a labelled region and are still no background.
    unknown = 0
    for item in json.loads((folder / "index.json").read_text("utf-8"))["items"]:
        with Image.open(folder / item["ignore"]) as image:
            unknown += int((np.asarray(image) == 255).sum())
    assert unknown > 0
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["settings"]["reviewed_only"] is True


def test_rejected_objects_are_listed_with_what_the_model_said(lab, slide, objects):
    lab.build(slide)
    (line,) = lines_of(lab.root / "set", "rejected.jsonl")
    with open_slide(slide) as opened:
        assert line["slide"] == opened.identity
    assert (line["object"], line["class"], line["split"]) == (objects[-1].id, "Nucleus", "train")
    assert (line["source"], line["model"], line["weights"]) == ("automatic", "seer", "abc")
    assert line["score"] == 0.42
    assert line["box"] == [580, 80, 620, 120]
    drawn = shapely.from_wkt(line["outline"])
    assert drawn.symmetric_difference(objects[-1].geometry).area < 1


def test_what_comes_back_is_listed_no_more(lab, slide, objects):
    lab.build(slide)
    with open_slide(slide) as opened:
        with open_store_for(slide, opened.identity, opened.name) as store:
            store.add([objects[-1]])
    lab.build(slide)
    assert lines_of(lab.root / "set", "rejected.jsonl") == []


def test_nothing_is_listed_of_a_test_slide(lab, make_disc):
    slides = []
    for number in range(8):
        path = lab.annotated(f"{number}.png", number, [make_disc(100, 100), make_disc(200, 100)])
        slides.append(path)
        with open_slide(path) as opened:
            identity = opened.identity
            with open_store_for(path, identity, opened.name) as store:
                store.reject([store.ids()[1]])
    lab.build(*slides, test=0.4, val=0.2)
    manifest = json.loads((lab.root / "set" / "manifest.json").read_text("utf-8"))
    splits = {one["identity"]: one["split"] for one in manifest["slides"]}
    assert "test" in splits.values()
    listed = {line["slide"] for line in lines_of(lab.root / "set", "rejected.jsonl")}
    assert listed == {key for key, split in splits.items() if split != "test"}


def test_nothing_reviewed_is_said_in_a_sentence(lab, make_disc):
    path = lab.annotated("a.png", 1, [make_disc(100, 100)])
    with pytest.raises(InputError, match="only 1 objects that nobody has reviewed"):
        lab.build(path, reviewed_only=True)


def test_the_command_takes_it(lab, slide, capsys):
    out = lab.root / "cli"
    status = main(["dataset", str(slide), "--out", str(out), "--reviewed-only", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (status, told["objects"]) == (0, 3)


def test_a_correction_by_hand_keeps_the_models_own_outline(make_disc):
    from napari_histosam.session import ObjectDesk
    from napari_histosam.session.editing import smooth

    with ObjectStore.open(None, author="Ada") as store:
        raw = make_disc(100, 100, provenance=AUTOMATIC)
        other = replace(make_disc(200, 100, provenance=AUTOMATIC), review=YES)
        store.add([raw, other])
        desk = ObjectDesk(store)
        for one in (raw, other):
            desk.select([one.id])
            desk.edit(lambda shape: shape.buffer(-4), "Shrink")
            desk.edit(lambda shape: shape.buffer(-1), "Shrink")
            kept = store.get(one.id)
            assert kept.review.state == "corrected"
            assert kept.provenance.first_mask.equals(one.geometry)
        many = [make_disc(50 * i + 20, 300, provenance=AUTOMATIC) for i in range(3)]
        store.add(many)
        desk.select([one.id for one in many])
        desk.edit(smooth(6), "Smooth")
        assert [one.review for one in desk.selected()] == [None] * 3
        desk.merge()
        assert desk.selected()[0].review.state == "corrected"
