"""SAM through the Learn tab: imported, trained beside the window, compared, used for a click."""

from __future__ import annotations

import math

import pytest

from napari_histosam import Session, open_slide
from napari_histosam.jobs import JobRunner
from napari_histosam.models import ModelRegistry
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.viewer.learning.choice import Choice
from napari_histosam.viewer.learning.desk import Desk


def checkpoint(variant, path):
    """Write a whole SAM of random weights, the same each time, under upstream's names."""
    import torch

    from napari_histosam.models.sam.build import build_sam, published_names

    torch.manual_seed(0)
    sam = build_sam(variant)
    own, state = sam.state_dict(), {}
    for name, ours in published_names(sam).items():
        value = own[ours]
        if value.ndim >= 2:
            value = torch.randn_like(value) / math.sqrt(math.prod(value.shape[1:]))
        elif value.dtype == torch.float32:
            value = torch.full_like(value, float(name.endswith(("weight", "running_var"))))
        state[name] = value
    torch.save(state, path)


class Workbench:
    """What the desk needs of a workbench, with a session that answers."""

    def __init__(self, session):
        self.registry, self.session = ModelRegistry(), session
        self.choice = Choice(self.registry)

    @property
    def model(self):
        return self.session.card.name

    def set_model(self, name):
        self.session.set_model(name)


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ("vit_t", "decoder"),
        pytest.param("vit_t", "lora", marks=pytest.mark.slow),
        pytest.param("vit_t", "full", marks=pytest.mark.slow),
    ],
)
def test_a_sam_learns_and_answers(bench, make_nucleus, tmp_path, variant, method):
    bench.patience = 280.0
    checkpoint(variant, tmp_path / "own.pth")
    name = ModelRegistry().import_file(tmp_path / "own.pth", "own-sam").name
    slides = [bench.slide(f"{n}.png", [make_nucleus(128, 128, 30)], n) for n in range(2)]
    with open_slide(slides[0]) as slide, Session(slide) as session:
        assert session.card.name == DEFAULT_MODEL
        jobs = JobRunner(threads=1)
        desk = Desk(Workbench(session), jobs)
        desk.launcher = bench.launcher
        try:
            desk.shelf.add(slides).future.result(20)
            desk.read_bases().future.result(60)
            offered = {one.card.name: one.methods for one in desk.bases}
            assert method in offered[name]
            desk.start(name, method, 1)
            shown = bench.until(desk.course, lambda shown: not shown.working)
            assert shown.state == "finished", shown.message
            assert [row["epoch"] for row in shown.epochs] == [0, 1]
            result = desk.result
            assert (result.base, result.n_counted) == (name, 1)
            desk.use(result.name)
        finally:
            jobs.close()
        assert session.card.name == result.name
        session.add_point(128.0, 128.0)
        # Of random weights no shape can be expected; but the whole model must have answered.
        assert session.preview is not None
        (found,) = session.preview.objects.values()
        assert 0 <= found.score <= 1
