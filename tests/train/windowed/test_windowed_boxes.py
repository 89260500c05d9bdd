"""Windows for models that learn from all they show: boxes alone, outlines, what is not known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import Detections
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.window_trainable import UNNAMED, WindowTruth
from napari_histosam.train.finetune.plan import Plan
from napari_histosam.train.labelled import Entry, entries
from napari_histosam.train.windowed.launch import division_of
from napari_histosam.train.windowed.validation import Tally, spread
from napari_histosam.train.windowed.verdict import judged
from napari_histosam.train.windowed.windows import Source, class_names, cut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CARD = ModelCard(
    "finder", "des-sam", "t", "none", ("box",), 64, 0.25, finds="objects", classes=("Nucleus",)
)
DISCS = ((20, 30, 9), (60, 34, 8), (95, 60, 10))


@pytest.fixture
def folder(tmp_path: Path, paint: Callable, write_set: Callable) -> Path:
    """One picture of 100 x 80 px with three discs, of which two are named in other ways."""
    root = tmp_path / "nuclei"
    items = write_set(root, {"own_0": paint(80, 100, *DISCS)}, mpp=0.25)
    items[0]["mpp"] = 0.25
    (root / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    return root


def change(folder: Path, **members: Any) -> None:
    path = folder / "index.json"
    data = json.loads(path.read_text())
    data["items"][0].update(members)
    path.write_text(json.dumps(data), "utf-8")


def boxes_of(labels: np.ndarray) -> list[list[float]]:
    out = []
    for number in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == number)
        out.append(
            [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        )
    return out


def the_one(folder: Path) -> Entry:
    (entry,) = entries(folder, boxes=True)
    return entry


def test_windows_cover_the_picture_and_know_their_objects(folder: Path) -> None:
    entry = the_one(folder)
    source = Source(("Nucleus",), boxes_only=False)
    parts = cut([entry], CARD, source)
    assert len(parts) > 1
    _, labels = entry.read()
    known = boxes_of(labels)
    whole: set[int] = set()
    for part in parts:
        seen = source.read(part)
        assert seen.images[0].shape == (64, 64, 3)
        assert seen.truth.masks is not None
        for box, mask in zip(seen.truth.boxes, seen.truth.masks, strict=True):
            assert mask is not None
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, tight, atol=1.01)
            left, top, _, _ = part.window.bounds
            own = box + np.array([left, top, left, top])
            whole |= {n for n, one in enumerate(known) if np.allclose(own, one, atol=1.01)}
    assert whole == {0, 1, 2}


def test_no_mask_is_read_when_learning_from_boxes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels = the_one(folder).read()
    change(folder, boxes=boxes_of(labels))
    with_masks = Source(("Nucleus",), boxes_only=False)
    before = [with_masks.read(p).truth.boxes for p in cut([the_one(folder)], CARD, with_masks)]
    read: list[str] = []
    real = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda path, *a: read.append(str(path)) or real(path, *a))
    source = Source(("Nucleus",), boxes_only=True)
    parts = cut([the_one(folder)], CARD, source)
    found = [source.read(part).truth for part in parts]
    assert read
    assert not [path for path in read if "masks" in path]
    assert all(truth.masks is None for truth in found)
    for one, truth in zip(before, found, strict=True):
        np.testing.assert_allclose(truth.boxes, one)
    (folder / "masks" / "own_0.png").unlink()  # and none is needed
    change(folder, mask=None)
    index = json.loads((folder / "index.json").read_text())
    del index["items"][0]["mask"]
    (folder / "index.json").write_text(json.dumps(index))
    source = Source(("Nucleus",), boxes_only=False)
    assert len(cut([the_one(folder)], CARD, source)) == len(parts)


def test_boxes_that_are_not_listed_are_asked_for(folder: Path) -> None:
    with pytest.raises(InputError, match="No boxes are listed for own_0"):
        cut([the_one(folder)], CARD, Source(("Nucleus",), boxes_only=True))
    change(folder, boxes=[[3, 4, 1, 9]])
    with pytest.raises(InputError, match="a box that is none"):
        the_one(folder)


def test_boxes_are_read_from_what_a_built_data_set_says(folder: Path) -> None:
    lines = [
        {"image": "own_0", "number": n, "class": name, "box": box}
        for n, (name, box) in enumerate([("A", [1, 2, 30, 40]), (None, [50, 20, 70, 45])], 1)
    ]
    (folder / "objects.jsonl").write_text("\n".join(map(json.dumps, lines)))
    entry = the_one(folder)
    assert entry.boxes is not None
    assert [one.name for one in entry.boxes] == ["A", None]
    assert [one.label for one in entry.boxes] == [1, 2]
    assert entries(folder)[0].boxes is None  # where nobody asked for them


def test_classes_come_from_the_data_where_it_names_several(folder: Path) -> None:
    entry = the_one(folder)
    assert class_names([entry], CARD) == ("Nucleus",)
    assert class_names([replace(entry, classes={"*": "nucleus"})], CARD) == ("Nucleus",)
    several = replace(entry, classes={"1": "Tumour", "2": "Immune"})
    names = class_names([several], CARD)
    assert names == ("Immune", "Tumour")
    source = Source(names, boxes_only=False)
    kinds = {k for p in cut([several], CARD, source) for k in source.read(p).truth.kinds.tolist()}
    assert kinds == {0, 1, UNNAMED}


def test_what_is_hardly_seen_or_not_known_is_neither_there_nor_not(folder: Path) -> None:
    unknown = np.zeros((80, 100), np.uint8)
    unknown[:10] = 255
    (folder / "ignore").mkdir()
    cv2.imwrite(str(folder / "ignore" / "own_0.png"), unknown)
    change(folder, ignore="ignore/own_0.png", boxes=[[60, 20, 120, 40], [5, 5, 20, 25]])
    source = Source(("Nucleus",), boxes_only=True)
    seen = [(p, source.read(p).truth) for p in cut([the_one(folder)], CARD, source)]
    part, truth = next(one for one in seen if one[0].window.bounds[0] == 0)
    assert part.window.bounds[1] == 0
    assert truth.ignore is not None
    assert truth.boxes.tolist() == [[5, 5, 20, 25]]  # of the other one, 4 of 60 px are seen
    assert truth.ignore[30, 62]
    assert truth.ignore[3, 40]
    assert not truth.ignore[8, 10]
    assert not truth.ignore[50, 30]


def test_a_box_that_a_user_drew_counts_as_drawn_unless_the_outline_was_corrected(
    folder: Path,
) -> None:
    drawn = {"role": "box", "box": [1.5, 2, 30, 41]}
    derived = {"role": "box", "box": [0, 0, 9, 9], "by": "histosam-small"}
    kept = {"image": "own_0", "class": None, "box": [4, 5, 20, 21], "first_iou": 1}
    lines = [
        {**kept, "number": 1, "prompts": [derived, drawn]},
        {**kept, "number": 2, "prompts": [drawn], "first_iou": 0.8},
        {**kept, "number": 3, "prompts": [derived]},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "objects.jsonl").write_text(text, "utf-8")
    (entry,) = entries(folder, boxes=True)
    assert entry.boxes is not None
    assert [one.box for one in entry.boxes] == [(1.5, 2, 30, 41), (4, 5, 20, 21), (4, 5, 20, 21)]


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores),
        np.zeros(count, np.int64),
        tuple(np.ones((2, 2), bool) for _ in range(count)),
        np.zeros((count, 2), np.int64),
    )


def test_average_precision_by_hand() -> None:
    truth = WindowTruth(np.array([[0, 0, 10, 10], [20, 0, 30, 10.0]]), np.zeros(2, np.int64))
    tally = Tally()
    # Right, wrong, the first one again, right: precision 1, 1/2, 1/3, 2/4 at recalls 1/2 and 1.
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 9], [20, 0, 30, 8]]
    tally.match(detections(boxes, [0.9, 0.8, 0.7, 0.6]), truth)
    assert tally.ap50() == pytest.approx((1 + 0.5) / 2)
    assert tally.iou() == pytest.approx((1 + 0.8) / 2)
    assert Tally().ap50() == 0
    empty = Tally()
    empty.match(detections([], []), truth)
    assert empty.ap50() == empty.iou() == 0
    # What lies where nothing is known is not wrong.
    unknown = np.zeros((80, 80), bool)
    unknown[45:, 45:] = True
    mild = Tally()
    mild.match(detections(boxes[:2], [0.9, 0.8]), replace(truth, ignore=unknown))
    assert mild.ap50() == pytest.approx(0.5)
    # An outline counts, where there is one.
    mask = np.zeros((12, 40), bool)
    mask[:2, :2] = True
    by_mask = Tally()
    by_mask.match(detections(boxes[:1], [0.9]), replace(truth, masks=[mask, None]))
    assert by_mask.iou() == pytest.approx(0.5)
    assert by_mask.ap50() == pytest.approx(0.5)


def test_a_verdict_over_groups() -> None:
    truth = WindowTruth(np.array([[0, 0, 10, 10.0]]), np.zeros(1, np.int64))
    good, bad = {}, {}
    for name in "abcdef":
        good[name], bad[name] = Tally(), Tally()
        good[name].match(detections([[0, 0, 10, 10]], [0.9]), truth)
        bad[name].match(detections([[40, 0, 50, 10]], [0.9]), truth)
    assert judged(bad, good)["verdict"] == "better"
    assert judged(good, bad)["verdict"] == "worse"
    same = judged(good, good)
    assert (same["verdict"], same["n_objects"], same["n_groups"]) == ("same", 6, 6)


def test_spread() -> None:
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(list(range(10)), 3) == [0, 4, 9]


def test_boxes_that_are_lacking_anywhere_are_said_before_the_training(folder: Path) -> None:
    items = json.loads((folder / "index.json").read_text())["items"]
    more = [{**items[0], "id": f"own_{n}", "group": f"g{n}"} for n in range(3)]
    for item in more[:2]:
        item["boxes"] = [[5, 5, 20, 25]]
    (folder / "index.json").write_text(json.dumps({"items": more}))
    named = {"train": ["own_0"], "val": ["own_1"], "test": ["own_2"]}
    (folder / "splits.json").write_text(json.dumps({"sets": {folder.name: named}}))
    plan = Plan(folder, "x", "decoder", folder / "run", boxes_only=True)
    with pytest.raises(InputError, match="No boxes are listed for own_2"):
        division_of(plan, CARD)
