"""Many prompts without a window, and the picture of what came out."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_histosam.errors import Cancelled, InputError
from napari_histosam.jobs import CancelToken
from napari_histosam.models import EmbeddingCache
from napari_histosam.records import Prompt, SlideObject
from napari_histosam.session.answer import TOGETHER
from napari_histosam.session.batch import segment
from napari_histosam.session.picture import BOX, NEGATIVE, POSITIVE, draw_picture


def click(x, y, name, role="positive"):
    return Prompt(shapely.Point(x, y), role, name)


@pytest.fixture
def cache():
    return EmbeddingCache(None)


def test_objects_come_with_provenance_and_progress(slide, seer, cache, helpers):
    steps = []
    prompts = [
        click(*helpers.small[:2], "a"),
        Prompt(shapely.box(340, 280, 380, 320), "box", "b", "Tumor"),
        click(700, 40, "glass"),
    ]
    found = list(segment(slide, seer, prompts, cache, steps.append, author="Ada"))
    assert len(found) == 2
    assert {o.class_name for o in found} == {None, "Tumor"}
    assert {o.provenance.author for o in found} == {"Ada"}
    assert [(s.done, s.total) for s in steps] == [(3, 3)]


def test_a_thousand_clicks_encode_each_window_once(slide, seer, helpers):
    small = EmbeddingCache(None, ram_bytes=3 * 256 * 256)  # holds three windows
    rng = np.random.default_rng(5)
    prompts = [click(*at, str(i)) for i, at in enumerate(rng.uniform(5, 1190, (1000, 2)))]
    list(segment(slide, seer, prompts, small))
    cells = {(round(p.geometry.x / 128), round(p.geometry.y / 128)) for p in prompts}
    # And a few more for objects that were recentred.
    assert len(seer.encoded) <= len(cells) + 60
    assert max(len(objects) for objects, _ in seer.decoded) <= TOGETHER


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([click(5, 5, "a"), click(-5, 5, "far")], "object far lies outside"),
        ([click(5, 5, "no", "negative")], "Object no has negative prompts only"),
        ([Prompt(shapely.box(1, 1, 1, 9), "box", "flat")], "object flat has no area"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_before_any_work(
    slide, seer, cache, prompts, message
):
    with pytest.raises(InputError, match=message):
        segment(slide, seer, prompts, cache)
    assert seer.encoded == []


def test_kinds_that_the_model_does_not_take_are_refused(slide, cache, helpers):
    boxes = helpers.seer("boxes", ("box",))
    with pytest.raises(InputError, match=r"boxes takes no click as a prompt \(object a\)"):
        segment(slide, boxes, [click(5, 5, "a")], cache)


def test_cancelling_stops_between_objects(slide, seer, cache):
    token = CancelToken()
    prompts = [click(300, 300, str(i)) for i in range(3 * TOGETHER)]
    running = segment(slide, seer, prompts, cache, cancel=token)
    next(running)
    token.cancel()
    with pytest.raises(Cancelled):
        list(running)


def test_the_picture_shows_slide_prompts_and_masks(slide, helpers, tmp_path):
    x, y, r = helpers.small
    item = SlideObject(geometry=shapely.Point(x, y).buffer(r), class_name="Odd")
    prompts = [
        click(x, y, "1"),
        click(x + 40, y + 40, "1", "negative"),
        Prompt(shapely.box(x - 30, y - 30, x + 30, y + 30), "box"),
    ]
    path = draw_picture(slide, [item], prompts, {"Odd": (10, 200, 30)}, tmp_path / "p.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    for colour in (POSITIVE, NEGATIVE, BOX, (10, 200, 30), (235, 235, 235)):
        assert (pixels == colour).all(1).sum() > 50
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["p.png"]


def test_a_picture_without_anything_is_of_the_whole_slide(slide, tmp_path):
    path = draw_picture(slide, [], [], {}, tmp_path / "p.png", max_px=140)
    assert Image.open(path).size == (140, 120)


def test_a_picture_that_cannot_be_written_is_refused(slide, tmp_path):
    with pytest.raises(InputError):
        draw_picture(slide, [], [], {}, tmp_path / "nowhere" / "p.png")
