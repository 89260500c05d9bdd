"""The process behind the Learn tab: what it says of a run that was ended before it got better."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from napari_histosam.cli import course
from napari_histosam.viewer.learning.course import Course

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_run_without_a_new_model_is_not_taken_for_a_paused_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = SimpleNamespace(data="data", train_arguments=lambda *_: ["train"])
    monkeypatch.setattr(Course, "order", order)
    monkeypatch.setattr(course.os, "nice", lambda _: None)
    Course(tmp_path).write("dataset", {"images": 1})
    said = "Finished early, as asked: no epoch was better, so there is no new model."
    for state, stage in (("done", "failed"), ("paused", "paused")):
        told = (0, {"state": state, "message": said}, "")
        monkeypatch.setattr(course, "_command", lambda _, told=told: told)
        assert course.work(tmp_path) == 0
        found = Course(tmp_path).read("course")
        assert (found["stage"], found["message"]) == (stage, said)
