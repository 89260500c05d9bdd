"""Building again into the same folder: only what changed, the test set frozen, never half-done."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from napari_histosam.errors import Cancelled, InputError
from napari_histosam.jobs import CancelToken
from napari_histosam.records import SlideObject
from napari_histosam.slide import open_slide
from napari_histosam.train.dataset.splits import split_of
from napari_histosam.train.labelled import entries, read_all

SHARES = {"val": 0.3, "test": 0.3}


def load(folder, name):
    return json.loads((folder / name).read_text("utf-8"))


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def slides(lab, make_disc, make_prompted):
    """Two slides for each split, with three objects each: split → paths."""
    found = {"train": [], "val": [], "test": []}
    seed = 0
    while any(len(paths) < 2 for paths in found.values()):
        slide = lab.slide(f"s{seed}.png", seed)
        with open_slide(slide) as opened:
            split = split_of(opened.identity, 0, 0.3, 0.3)
        if len(found[split]) < 2:
            shift = 7 * seed
            objects = [make_disc(100 + shift, 100, class_name="Nucleus"), make_disc(500, 450)]
            lab.store(slide, [*objects, make_prompted(400, 100, class_name="Nucleus")])
            found[split].append(slide)
        seed += 1
    return found


@pytest.fixture
def every(slides):
    return [slide for paths in slides.values() for slide in paths]


def test_the_same_input_gives_the_same_bytes(lab, every, content):
    done = lab.build(*every, **SHARES)
    folder = lab.root / "set"
    first, before = content(folder), stamps(folder)
    again = lab.build(*reversed(every), **SHARES)
    assert (again.added, again.kept, again.removed) == (0, done.windows, 0)
    assert content(folder) == first
    assert stamps(folder) == before  # not even written
    lab.build(*every, out="deep/set", **SHARES)
    assert content(lab.root / "deep" / "set") == first


def test_only_what_changed_is_written(lab, slides, every, content):
    lab.build(*every, **SHARES)
    folder = lab.root / "set"
    before = stamps(folder)
    moved = slides["train"][0]
    with open_slide(moved) as opened:
        identity = opened.identity
    lab.store(moved, [SlideObject(shapely.box(300, 300, 340, 340), "New", id="n")])
    done = lab.build(*every, **SHARES)
    after = stamps(folder)
    for path, stamp in after.items():
        if path.suffix == ".png" and identity[:10] not in path.name:
            assert stamp == before[path]
    assert done.added == 1
    assert {path.name for path in before if path.suffix == ".png"} != set()
    assert not any(path in after for path in before if path.name.startswith(identity[:10]))
    assert done.removed > 0
    assert done.classes == {"Nucleus": 1, "New": 2}  # ids that were given stay


def test_slides_that_are_not_given_any_more_go_away(lab, slides, every):
    lab.build(*every, **SHARES)
    done = lab.build(*slides["train"], slides["val"][0], **SHARES)
    folder = lab.root / "set"
    names = {one["name"] for one in load(folder, "manifest.json")["slides"]}
    assert slides["val"][1].name not in names
    # The test set stays, also if its slides are not at hand.
    assert {path.name for path in slides["test"]} < names
    assert sum("of the test set was not given; its windows stay" in w for w in done.warnings) == 2
    listed = {item["image"] for item in load(folder, "index.json")["items"]}
    assert {f"images/{path.name}" for path in (folder / "images").iterdir()} == listed


def test_slides_keep_their_split_when_others_come(lab, slides, every, make_disc):
    some = [slides["train"][0], slides["val"][0]]
    lab.build(*some, **SHARES)
    before = {o["name"]: o["split"] for o in load(lab.root / "set", "manifest.json")["slides"]}
    lab.build(*every, **SHARES)
    after = {o["name"]: o["split"] for o in load(lab.root / "set", "manifest.json")["slides"]}
    assert before.items() <= after.items()
    assert {p.name for p in slides["test"]} == {n for n, s in after.items() if s == "test"}


def test_the_first_of_few_slides_stays_in_training(lab, slides):
    first, second = slides["test"]
    lab.build(first, **SHARES)
    lab.build(first, second, **SHARES)
    told = {o["name"]: o["split"] for o in load(lab.root / "set", "manifest.json")["slides"]}
    assert told == {first.name: "train", second.name: "val"}


def test_a_slide_that_comes_back_is_where_it_was(lab, slides):
    trained, *_ = slides["test"]
    lab.build(trained, **SHARES)
    lab.build(*slides["train"], *slides["val"], **SHARES)
    lab.build(*slides["train"], *slides["val"], *slides["test"], **SHARES)
    told = {o["name"]: o["split"] for o in load(lab.root / "set", "manifest.json")["slides"]}
    assert [told[slide.name] for slide in slides["test"]] == ["train", "test"]


def test_a_test_set_is_frozen(lab, slides, every, make_disc, content):
    lab.build(*every, **SHARES)
    folder = lab.root / "set"

    def test_part():
        items = [i for i in load(folder, "index.json")["items"] if i["split"] == "test"]
        names = {item["id"] for item in items}
        files = {n: data for n, data in content(folder).items() if n.split("/")[-1][:-4] in names}
        lines = (folder / "objects.jsonl").read_text("utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["image"] in names]
        return items, files, kept, load(folder, "manifest.json")["test_set"]

    before = test_part()
    corrected = slides["test"][0]
    changed = [make_disc(500, 450, 30, class_name="Nucleus"), make_disc(300, 300)]
    lab.store(corrected, changed)
    done = lab.build(*every, **SHARES)
    assert test_part() == before
    (said,) = [one for one in done.warnings if "of the test set has" in one]
    assert said.startswith(f"{corrected.name} of the test set has 1 changed, 1 new and 2 deleted")
    assert done.added == done.removed == 0
    # Nor do other settings change it.
    lab.build(*every, **{**SHARES, "size": 128})
    assert test_part() == before
    assert not [one for one in lab.build(*every[:4], **SHARES).warnings if "1 changed" in one]
    assert test_part() == before

    done = lab.build(*every, **SHARES, refreeze=True)
    assert test_part() != before
    assert done.added > 0
    assert not any("test set" in one for one in done.warnings)
    assert done.counts["test"]["objects"] == 5


def test_a_new_slide_does_not_join_a_frozen_test_set(lab, slides):
    first, second = slides["test"]
    others = [*slides["train"], *slides["val"]]
    lab.build(*others, first, **SHARES)
    done = lab.build(*others, first, second, **SHARES)
    folder = lab.root / "set"
    told = {o["name"]: o["split"] for o in load(folder, "manifest.json")["slides"]}
    assert (told[first.name], told[second.name]) == ("test", "val")
    assert any(f"{second.name} went to val and not to the test set" in w for w in done.warnings)
    lab.build(*others, first, second, **SHARES, refreeze=True)
    told = {o["name"]: o["split"] for o in load(folder, "manifest.json")["slides"]}
    assert told[second.name] == "test"


def test_a_damaged_file_is_made_again_or_told(lab, slides, every):
    lab.build(*every, **SHARES)
    folder = lab.root / "set"
    items = load(folder, "index.json")["items"]
    (name, *_) = [item["image"] for item in items if item["split"] == "train"]
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(good[:50])
    lab.build(*every, **SHARES)
    assert (folder / name).read_bytes() == good
    (name, *_) = [item["mask"] for item in items if item["split"] == "test"]
    (folder / name).unlink()
    with pytest.raises(
        InputError, match=r"of the test set is missing or was changed; .*--refreeze"
    ):
        lab.build(*every, **SHARES)
    lab.build(*every, **SHARES, refreeze=True)
    assert (folder / name).is_file()


def test_the_seed_of_a_folder_stays(lab, every):
    lab.build(*every, **SHARES)
    with pytest.raises(InputError, match="was split with seed 0"):
        lab.build(*every, **SHARES, seed=1)


def test_the_licence_stays_until_another_is_given(lab, slides):
    slide = slides["train"][0]
    lab.build(slide, licence="CC0")
    lab.build(slide)
    assert load(lab.root / "set", "manifest.json")["licence"] == "CC0"


def test_the_scale_stays_when_objects_come(lab, slides, make_disc):
    slide = slides["train"][0]
    first = lab.build(slide, mpp=None, size=512)
    lab.store(slide, [make_disc(30 * n + 20, 20, 6) for n in range(12)] + [make_disc(500, 450)])
    again = lab.build(slide, mpp=None, size=512)
    assert (again.mpp, again.scale) == (first.mpp, first.scale)
    assert lab.build(slide, mpp=None, size=512, out="other").mpp < first.mpp


@pytest.mark.parametrize("name", ["manifest.json", "index.json", "objects.jsonl"])
def test_a_damaged_data_set_is_refused(lab, slides, name):
    slide = slides["train"][0]
    lab.build(slide)
    path = lab.root / "set" / name
    good = path.read_text("utf-8")
    for wrong in ("{", "[]" if name != "objects.jsonl" else "[]\n", "{}\n"):
        path.write_text(wrong, "utf-8")
        with pytest.raises(InputError, match=r"restore it|not of a data set"):
            lab.build(slide)
    path.write_text(good, "utf-8")
    manifest = load(lab.root / "set", "manifest.json")
    (lab.root / "set" / "manifest.json").write_text(json.dumps({**manifest, "version": 2}), "utf-8")
    with pytest.raises(InputError, match="another version"):
        lab.build(slide)


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("how", ["cancel", "error", "full"])
def test_an_interrupted_build_leaves_the_older_data_set(
    lab, slides, every, make_disc, content, monkeypatch, how
):
    lab.build(*every, **SHARES)
    folder = lab.root / "set"
    before = content(folder)
    for slide in slides["train"]:
        lab.store(slide, [make_disc(200, 200), make_disc(500, 100), make_disc(100, 500)])
    token, seen = CancelToken(), []

    def report(progress):
        seen.append(progress)
        if len(seen) == 9:
            token.cancel()
            if how == "error":
                raise Interrupt

    if how == "full":
        write, token = Path.write_bytes, None

        def full(path, data):
            if "coco" in path.name:
                raise OSError(errno.ENOSPC, "full")
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", full)
    kind = {"cancel": Cancelled, "error": Interrupt, "full": InputError}[how]
    with pytest.raises(kind):
        lab.build(*every, **SHARES, cancel=token, report=report if token else None)
    assert content(folder) == before
    monkeypatch.undo()
    assert lab.build(*every, **SHARES).added > 0


def test_progress_goes_from_reading_to_the_last_window(lab, every):
    seen = []
    done = lab.build(*every, **SHARES, report=seen.append)
    assert seen[0].text.startswith("Reading ")
    assert (seen[-1].done, seen[-1].total) == (done.windows, done.windows)
    numbers = [one.done for one in seen]
    assert numbers == sorted(numbers)


KILLED = """
import sys, time
from pathlib import Path
from napari_histosam.train.dataset import build as module
from napari_histosam.train.dataset.request import Request, Settings

def report(progress):
    if progress.done == 3:
        Path(sys.argv[2]).write_text("now")
        time.sleep(60)

settings = Settings(size=256, mpp=0.5, val=0.3, test=0.3)
stores = tuple(map(Path, sys.argv[3:]))
module.build(Request(Path(sys.argv[1]), stores, settings=settings), report)
"""


def test_a_killed_build_leaves_the_older_data_set(lab, slides, every, make_disc, tmp_path):
    lab.build(*every, **SHARES)
    folder = lab.root / "set"
    documents = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    for paths in (slides["train"], slides["val"]):
        for slide in paths:
            lab.store(slide, [make_disc(200, 200), make_disc(500, 100), make_disc(100, 500)])
    flag = tmp_path / "flag"
    words = [sys.executable, "-c", KILLED, str(folder), str(flag), *map(str, every)]
    child = subprocess.Popen(words, env=dict(os.environ))
    try:
        deadline = time.monotonic() + 120
        while not flag.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert flag.exists()
    finally:
        child.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        child.wait()
    for name, data in documents.items():
        assert (folder / name).read_bytes() == data
    found = entries(folder, ["train", "val", "test"])
    assert len(list(read_all(found))) == len(found) > 0
    done = lab.build(*every, **SHARES)
    assert done.added > 0
    listed = {item["id"] for item in load(folder, "index.json")["items"]}
    for part in ("images", "masks", "ignore"):
        assert {path.stem for path in (folder / part).iterdir()} == listed
    assert not list(folder.glob(".*"))


def test_a_held_out_patient_is_not_trained_on_later(lab, slides, every):
    lab.build(*every, **SHARES)
    train, test = slides["train"][0], slides["test"][0]
    done = lab.build(*every, **SHARES, patients={train.name: "Ann", test.name: "Ann"})
    told = {o["name"]: o for o in load(lab.root / "set", "manifest.json")["slides"]}
    assert told[train.name]["split"] == "val"
    assert told[test.name]["split"] == "test"
    assert told[train.name]["group"] == told[test.name]["group"]
    assert any(f"{train.name} went to val" in one for one in done.warnings)


def test_ids_of_objects_do_not_matter_to_the_pictures(lab, slides, make_disc):
    slide = slides["train"][0]
    lab.build(slide)
    names = {path.name for path in (lab.root / "set" / "masks").iterdir()}
    objects = [make_disc(100, 100)]
    lab.store(slide, objects)
    lab.build(slide)
    fewer = {path.name for path in (lab.root / "set" / "masks").iterdir()}
    lab.store(slide, [replace(objects[0], id="other", class_name="Other")])
    lab.build(slide)
    assert {path.name for path in (lab.root / "set" / "masks").iterdir()} == fewer != names
    assert load(lab.root / "set", "index.json")["classes"] == {"Other": 1}
