"""The desk behind the tab: two trainings in one sitting, one at a time, each decided on."""

from __future__ import annotations

import pytest

from napari_histosam.errors import InputError
from napari_histosam.jobs import JobRunner
from napari_histosam.models import ModelRegistry
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.viewer.learning.choice import Choice
from napari_histosam.viewer.learning.desk import Desk


class Workbench:
    """What the desk needs of a workbench."""

    def __init__(self) -> None:
        self.registry = ModelRegistry()
        self.choice = Choice(self.registry)
        self.model = DEFAULT_MODEL

    def set_model(self, name: str) -> None:
        self.registry.load(name, device="cpu")
        self.model = name


@pytest.fixture
def desk(bench):
    jobs = JobRunner(threads=1)
    made = Desk(Workbench(), jobs)
    made.launcher = bench.launcher
    yield made
    jobs.close()


@pytest.mark.slow
def test_two_trainings_in_one_sitting(desk, bench):
    with pytest.raises(InputError, match="No objects yet"):
        desk.start(DEFAULT_MODEL, "decoder", 1)
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    desk.shelf.add(slides).future.result(20)
    desk.read_bases().future.result(60)
    assert DEFAULT_MODEL in [one.card.name for one in desk.bases]

    desk.start(DEFAULT_MODEL, "decoder", 1)
    first = desk.course
    assert first.order.objects == 8
    desk.look_at(None)
    assert desk.look() is None
    with pytest.raises(InputError, match="is running"):
        desk.start(DEFAULT_MODEL, "decoder", 1)
    # Another window finds the one that runs.
    other = Desk(Workbench(), JobRunner())
    other.find()
    assert other.course == first

    desk.look_at(first)
    bench.until(first, lambda shown: not shown.working)
    assert desk.look().state == "finished"
    one = desk.result.name
    desk.use(one)
    assert (desk.workbench.model, desk.workbench.choice.model) == (one, one)
    assert desk.decision == "used"

    # The second begins with the first one's model.
    desk.start(one, "decoder", 1)
    assert desk.course != first
    bench.until(desk.course, lambda shown: not shown.working)
    result = desk.result
    assert (result.base, result.name) == (one, f"{one}-2")
    said = []
    desk.said.connect(said.append)
    desk.keep_old()
    assert desk.decision == "kept"
    assert one in said[-1]
    assert desk.go_back() == DEFAULT_MODEL
    assert desk.workbench.model == DEFAULT_MODEL
    # Both are decided on: nothing waits.
    other.look_at(None)
    other.find()
    assert other.course is None
