"""The pictures of what changed most: which objects, and that they can be looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from napari_histosam.train.evaluation.gallery import (
    AFTER,
    BEFORE,
    MOST,
    SIDE,
    TRUTH,
    most_changed,
    write_gallery,
)
from napari_histosam.train.evaluation.protocol import Outcome
from napari_histosam.train.labelled import Entry


def outcome(number: int, click: float, box: float) -> Outcome:
    entry = Entry("im", "set", "im", Path("im.png"), Path("mask.png"), 0.5)
    return Outcome(
        entry, number, 100 + number, False, (1, 2, 30, 40), (click, click, click), click, box,
        0.5, 0.5, 0.5, (click,), (), (), (),
    )  # fmt: skip


def test_the_prompt_that_changed_most_is_shown_and_each_object_once():
    before = [outcome(n, 0.5, 0.5) for n in range(12)]
    after = [outcome(n, 0.5 + n / 100, 0.5 - n / 100) for n in range(12)]
    after[11] = replace(after[11], clicks=(0.9,) * 3, box=0.95)
    chosen = most_changed(before, after)
    assert [row["label"] for row in chosen["best"]] == [11, 10, 9, 8]
    assert chosen["best"][0]["prompt"] == "Box"
    assert {row["prompt"] for row in chosen["best"][1:]} == {"1 click"}
    assert [row["label"] for row in chosen["worst"]] == [10, 9, 8, 7]
    assert len(chosen["worst"]) == MOST


def test_an_object_that_two_windows_show_is_shown_once():
    before = [outcome(1, 0.5, 0.5), outcome(2, 0.5, 0.5)]
    after = [outcome(1, 0.5, 0.8), replace(outcome(2, 0.5, 0.801), area=101)]
    assert [row["label"] for row in most_changed(before, after)["best"]] == [2]


def test_changes_too_small_to_see_are_none():
    before = [outcome(1, 0.5, 0.5)]
    assert most_changed(before, [outcome(1, 0.51, 0.49)]) == {"best": [], "worst": []}


@pytest.mark.parametrize("at", [(0, 0), (40, 30), (88, 68)])
def test_pictures_show_both_outlines_also_at_the_border(tmp_path, at):
    image = np.full((80, 100, 3), 220, np.uint8)
    truth, old, new = np.zeros((3, 80, 100), bool)
    x, y = at
    truth[y : y + 12, x : x + 12] = True
    old[y : y + 6, x : x + 12] = True
    new[y : y + 11, x : x + 12] = True
    row = {"set": "s", "image": "i", "label": 1, "prompt": "Box", "before": 0.5, "after": 0.9}
    folder = tmp_path / "gallery"
    write_gallery(
        folder, {"best": [row], "worst": []}, {("s", "i", 1, "Box"): (image, truth, old, new)}
    )
    told = json.loads((folder / "gallery.json").read_text())
    assert told["worst"] == []
    for which, colour in (("before", BEFORE), ("after", AFTER)):
        found = cv2.imread(str(folder / told["best"][0][f"{which}_picture"]))[..., ::-1]
        assert found.shape == (SIDE, SIDE, 3)
        for wanted in (TRUTH, colour):
            assert (np.abs(found.astype(int) - wanted).max(-1) < 12).any()
