"""What there is to learn from, whether it suffices, and where it is looked for."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from napari_histosam.errors import InputError
from napari_histosam.jobs import JobRunner
from napari_histosam.records import Provenance, Review, SlideObject
from napari_histosam.store import ObjectStore
from napari_histosam.store.places import beside
from napari_histosam.train.dataset.build import build
from napari_histosam.train.dataset.request import Request
from napari_histosam.viewer.learning import sources
from napari_histosam.viewer.learning.shelf import Shelf
from napari_histosam.viewer.learning.sources import Teaching, advice, lacks_background


def nothing():
    pass


def test_objects_are_counted_by_class_and_whether_they_were_corrected(bench, make_nucleus):
    made = [
        make_nucleus(60, 60),
        make_nucleus(160, 60, shift=4.0),
        make_nucleus(60, 160, class_name=None, shift=4.0),
        make_nucleus(128, 128, 100, "Region*"),
    ]
    blind = make_nucleus(200, 200)
    seen_by_nobody = Provenance("automatic", first_mask=blind.geometry)
    made.append(SlideObject(blind.geometry, "Tumor", provenance=seen_by_nobody))
    slide = bench.slide("a.png", made)
    for path in (beside(slide), slide, slide.parent):
        (found,) = sources.survey(path, nothing)
        assert found.name == "a.png"
        assert found.objects == {"Tumor": 2, None: 1}
        assert found.corrected == {"Tumor": 1, None: 1}
        assert found.count == 3
        assert found.count_corrected == 2
        assert found.windows >= 1
        assert (found.regions, found.patient) == (1, "")
        assert found.unseen == 1


def test_automatic_objects_count_once_they_are_reviewed(bench, make_nucleus):
    raw = [make_nucleus(60 + 100 * i, 60) for i in range(4)]
    made = Provenance("automatic")
    said = [Review("accepted"), Review("corrected"), None, None]
    slide = bench.slide(
        "a.png", [replace(o, provenance=made, review=r) for o, r in zip(raw, said, strict=True)]
    )
    (found,) = sources.survey(slide, nothing)
    assert (found.count, found.count_corrected, found.unseen) == (2, 1, 2)
    twice = advice([found, found]).text
    assert twice.endswith("4 automatic objects count once they are accepted in the tab Review.")
    alone = Teaching("k", "a", slide, unseen=1)
    assert advice([alone]).text.endswith(
        "1 automatic object counts once it is accepted in the tab Review."
    )
    assert not advice([alone]).enough


def test_stores_of_the_folder_the_latest_first(bench, make_nucleus):
    names = ["a.png", "b.png", "c.png"]
    made = [bench.slide(n, [make_nucleus(60, 60)], seed) for seed, n in enumerate(names)]
    for age, path in enumerate(made):
        os.utime(beside(path), (1e9 - age, 1e9 - age))
    assert sources.nearby(made[1]) == [beside(made[0]), beside(made[2])]


@pytest.mark.parametrize(
    ("counts", "level", "words"),
    [
        ([], "no", "No objects yet"),
        ([0, 0], "no", "No objects yet"),
        ([9], "no", "1 slide with 9 objects: there is nothing to test on"),
        ([1, 0], "no", "1 slide with 1 object: "),
        ([3, 3], "little", "2 slides with 6 objects"),
        ([20, 20], "little", "50 objects or more"),
        ([60, 20], "little", "a third slide"),
        ([30, 20, 10], "good", "enough to train and test"),
    ],
)
def test_one_sentence_says_whether_it_suffices(bench, counts, level, words):
    chosen = [Teaching(str(n), f"{n}.svs", bench.root, {"a": c}) for n, c in enumerate(counts)]
    found = advice(chosen)
    assert found.level == level
    assert words in found.text
    assert found.enough == (level != "no")
    assert found.text.endswith(".")


def test_who_finds_by_himself_must_see_background(bench):
    slide = Teaching("a", "a.svs", bench.root, {"Tumor": 30})
    full = replace(slide, name="b.svs", regions=1)
    assert lacks_background([slide, slide]).level == "no"
    assert "Mark view as fully labelled" in lacks_background([slide]).text
    some = lacks_background([slide, full])
    assert some.enough
    assert "a.svs" in some.text
    assert lacks_background([full, full]) is None


@pytest.mark.parametrize(
    ("patients", "level", "words"),
    [
        (["Ann", "Ann"], "no", "2 slides of 1 patient with 60 objects: there is nothing to test"),
        (["Ann", "Ann", ""], "little", "3 slides of 2 patients with 90 objects"),
        (["Ann", "Ann", "Bob", ""], "good", "4 slides of 3 patients with 120 objects"),
        (["Ann", "Bob", "Cem"], "good", "3 slides with 90 objects"),
    ],
)
def test_slides_of_one_patient_count_once(bench, patients, level, words):
    chosen = [
        Teaching(str(n), f"{n}.svs", bench.root, {"a": 30}, patient=name)
        for n, name in enumerate(patients)
    ]
    found = advice(chosen)
    assert found.level == level
    assert words in found.text
    if level != "good":
        assert "patient" in found.text.partition("objects")[2]


def test_a_patient_is_kept_with_the_slide_and_never_split(bench, make_nucleus):
    made = [
        bench.slide(f"{n}.png", [make_nucleus(60, 60), make_nucleus(160, 160)], n) for n in range(6)
    ]
    jobs = JobRunner(threads=1)
    shelf, said = Shelf(jobs), []
    shelf.said.connect(said.append)
    shelf.add(made).future.result(20)
    for number, one in enumerate(shelf.slides):
        shelf.name_patient(one.key, f" P{int(one.name[0]) % 2} ").future.result(20)
        assert shelf.name_patient(str(number), "nobody") is None
    shelf.read().future.result(20)
    assert {one.name: one.patient for one in shelf.slides} == {
        f"{n}.png": f"P{n % 2}" for n in range(6)
    }
    assert "6 slides of 2 patients" in shelf.advice.text
    # The data set takes it from there; a table that is given goes before it.
    build(Request(bench.root / "set", tuple(made)))
    text = (bench.root / "set" / "manifest.json").read_text("utf-8")
    splits = {}
    for slide in json.loads(text)["slides"]:
        splits.setdefault(int(slide["name"][0]) % 2, set()).add(slide["split"])
    assert sorted(map(sorted, splits.values())) == [["train"], ["val"]]
    assert '"P1"' not in text
    table = {f"{n}.png": "same" for n in range(6)}
    done = build(Request(bench.root / "other", tuple(made), patients=table))
    assert "one patient only" in " ".join(done.lacking)
    # A store that another window writes to stays as it is, and that is said.
    first = next(one for one in shelf.slides if one.name == "0.png")
    with ObjectStore.open(beside(made[0])), pytest.raises(InputError):
        shelf.name_patient(first.key, "other").future.result(20)
    assert len(said) == 1
    jobs.close()


def test_the_shelf_takes_ticks_and_troubles(bench, make_nucleus):
    slide = bench.slide("a.png", [make_nucleus(60, 60)])
    jobs = JobRunner(threads=1)
    shelf, said = Shelf(jobs), []
    shelf.said.connect(said.append)
    shelf.add([slide, bench.root / "nowhere.png"]).future.result(20)
    jobs.close()
    assert [one.name for one in shelf.slides] == ["a.png"]
    assert len(said) == 1
    assert "nowhere.png" in said[0]
    (one,) = shelf.chosen
    shelf.tick(one.key, False)
    assert shelf.chosen == []
    assert not shelf.advice.enough
    shelf.tick(one.key, True)
    assert shelf.chosen == [one]


def test_what_has_not_changed_is_not_read_again(bench, make_nucleus, monkeypatch):
    slide = bench.slide("a.png", [make_nucleus(60, 60)])
    read = []
    real = sources.survey
    monkeypatch.setattr(sources, "survey", lambda path, step: read.append(path) or real(path, step))
    jobs = JobRunner(threads=1)
    shelf = Shelf(jobs)
    shelf.add([slide]).future.result(20)
    shelf.read().future.result(20)
    assert len(read) == 1
    os.utime(beside(slide), (1e9, 1e9))
    shelf.read().future.result(20)
    jobs.close()
    assert len(read) == 2


def test_a_file_beside_a_store_is_refused(bench):
    with pytest.raises(InputError, match="choose the slide itself"):
        sources.check_path(bench.root / "a.svs.histosam.sqlite-wal")
