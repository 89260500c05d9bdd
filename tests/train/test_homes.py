"""An object that overlapping windows of a data set show is counted once, in its home."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.evaluation.protocol import outcomes
from napari_histosam.train.labelled import entries


class Subject:
    """Answers with nothing."""

    def __init__(self, shape) -> None:
        self._empty = np.zeros(shape, bool)

    def ask(self, clicks, box):
        return type("Reply", (), {
            "masks": [self._empty], "scores": [0.5], "encode_ms": 0.0, "decode_ms": 0.0
        })()  # fmt: skip

    def forget(self) -> None:
        pass


@pytest.fixture
def windows(tmp_path, paint, write_set):
    picture = paint(64, 96, (20, 30, 9), (60, 30, 12))
    write_set(tmp_path, {"left": picture, "right": picture})
    return tmp_path


def numbers(entry):
    _, labels = entry.read()
    return [o.number for o in outcomes(entry, labels, Subject(labels.shape), seed=0)]


def test_all_objects_count_where_nothing_is_said(windows):
    assert [numbers(entry) for entry in entries(windows)] == [[1, 2], [1, 2]]


def test_each_object_counts_in_its_home(windows):
    lines = [
        {"image": "left", "number": 1, "home": True},
        {"image": "left", "number": 2, "home": False},
        {"image": "right", "number": 1, "home": False},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (windows / "objects.jsonl").write_text(text, "utf-8")
    assert [numbers(entry) for entry in entries(windows)] == [[1], []]


def test_a_damaged_list_is_one_sentence(windows):
    (windows / "objects.jsonl").write_text("[]\n", "utf-8")
    with pytest.raises(InputError, match="restore it"):
        entries(windows)
