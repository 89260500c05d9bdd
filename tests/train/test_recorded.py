"""What is read of a data set's records: first masks, first prompts, homes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.labelled import entries
from napari_histosam.train.recorded import Recorded, records

if TYPE_CHECKING:
    from pathlib import Path

CLICK = {"role": "positive", "kind": "point", "xy": [[3.5, 4.25]]}
BOX = {"role": "box", "box": [1, 2, 30, 40.5]}
USED = {"role": "box", "box": [2, 3, 31, 42], "by": "histosam-small"}
SCRIBBLE = {"role": "positive", "kind": "scribble", "xy": [[1, 1], [2, 2]]}


def line(number: int, **members: Any) -> str:
    return json.dumps({"image": "a", "number": number, "home": True, **members}) + "\n"


def test_first_masks_and_first_prompts_are_read(tmp_path: Path) -> None:
    lines = (
        line(1, first_iou=0.5, prompts=[CLICK, BOX]),
        line(2, first_iou=None, prompts=[BOX, CLICK]),
        line(3, first_iou=1, prompts=[SCRIBBLE, CLICK]),
        line(4, first_iou=0.25, prompts=[CLICK], home=False),
        line(5, first_iou=None, prompts=[]),
        line(6),
        line(7, prompts=[CLICK, CLICK, USED]),
        line(8, prompts=[SCRIBBLE, USED]),
    )
    (tmp_path / "objects.jsonl").write_text("".join(lines), "utf-8")
    found = records(tmp_path)
    assert found is not None
    assert found["a"].homes == {1, 2, 3, 5, 6, 7, 8}
    assert found["a"].objects == {
        1: Recorded(0.5, click=(3.5, 4.25)),
        2: Recorded(box=(1.0, 2.0, 30.0, 40.5)),
        3: Recorded(1.0),
        4: Recorded(0.25),
        7: Recorded(click=(3.5, 4.25), used=(2.0, 3.0, 31.0, 42.0)),
        8: Recorded(used=(2.0, 3.0, 31.0, 42.0)),
    }


def test_a_set_without_records_has_none(tmp_path: Path, write_set: Any, paint: Any) -> None:
    assert records(tmp_path) is None
    write_set(tmp_path / "nuclei", {"a": paint(40, 40, (20, 20, 9))})
    (entry,) = entries(tmp_path / "nuclei")
    assert (entry.homes, dict(entry.recorded)) == (None, {})


@pytest.mark.parametrize(
    "members",
    [
        {"first_iou": 1.5},
        {"first_iou": float("nan")},
        {"first_iou": "much"},
        {"prompts": [{"role": "box", "box": [1, 2]}]},
        {"prompts": [{**CLICK, "xy": [[1, float("inf")]]}]},
        {"prompts": [{**CLICK, "xy": []}]},
        {"prompts": [7]},
        {"prompts": {"role": "box"}},
    ],
)
def test_a_record_that_makes_no_sense_is_one_sentence(tmp_path: Path, members: Any) -> None:
    (tmp_path / "objects.jsonl").write_text(line(1, **members), "utf-8")
    with pytest.raises(InputError, match=r"objects.jsonl cannot be read .*: restore it"):
        records(tmp_path)
