"""Prompts become previews: encodings shared, one call per window, scores beside their masks."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.models import EmbeddingCache
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.records import Prompt
from napari_histosam.session import Answerer, Request
from napari_histosam.session.answer import TOGETHER
from napari_histosam.slide.open import open_array


def point(x, y, name="1", role="positive"):
    return Prompt(shapely.Point(x, y), role, name)


def asking(*prompts, generation=1, previous=None, view_scale=None):
    groups = {}
    for prompt in prompts:
        groups[prompt.object] = (*groups.get(prompt.object, ()), prompt)
    return Request(generation, groups, view_scale, previous or {})


def disc(x, y, r):
    return shapely.Point(x, y).buffer(r + 0.5)


def iou(a, b):
    return a.intersection(b).area / a.union(b).area


@pytest.fixture
def answerer(slide, seer):
    return Answerer(slide, seer, EmbeddingCache(None))


def test_a_click_finds_what_is_under_it(answerer, helpers):
    x, y, r = helpers.small
    preview = answerer.answer(asking(point(x, y)))
    found = preview.objects["1"]
    assert iou(found.geometry, disc(x, y, r)) > 0.93
    assert found.score == 0.9
    assert found.first is found.geometry
    assert not found.cut
    assert (found.model, found.weights_hash) == ("seer", "hash of seer")
    assert preview.encode_ms > 0


def test_clicks_nearby_and_corrections_share_one_encoding(answerer, seer, helpers):
    x, y, _ = helpers.small
    first = answerer.answer(asking(point(x, y)))
    second = answerer.answer(asking(point(x + 3, y - 5)))
    later = answerer.answer(
        asking(point(x, y), point(x + 40, y, role="negative"), previous=first.objects)
    )
    assert len(seer.encoded) == 1
    assert second.encode_ms == later.encode_ms == 0
    assert len({p.objects["1"].window for p in (first, second, later)}) == 1


def test_objects_in_a_window_are_decoded_in_one_call(answerer, seer, helpers):
    small, near = helpers.small[:2], helpers.near[:2]
    prompts = [
        point(*small, "a"),
        point(*near, "b"),
        point(small[0] + 2, small[1], "c"),
        point(*near, "c", "negative"),  # no longer a single click
    ]
    preview = answerer.answer(asking(*prompts, view_scale=2.0))
    assert len(seer.encoded) == len(seer.decoded) == 1
    assert len(seer.decoded[0][0]) == 3
    counts = {name: len(one.candidates) for name, one in preview.objects.items()}
    assert counts == {"a": 3, "b": 3, "c": 1}


def test_several_masks_are_asked_for_a_single_click_only(answerer, seer, helpers):
    x, y, r = helpers.small
    answerer.answer(asking(point(x, y)))
    answerer.answer(asking(Prompt(shapely.box(x - r, y - r, x + r, y + r), "box")))
    answerer.answer(asking(Prompt(shapely.LineString([(x - 9, y), (x + 9, y)]), "positive")))
    answerer.answer(asking(Prompt(disc(x, y, r), "mask")))
    answerer.answer(asking(point(x, y), point(x + 2, y)))
    assert [several for _, several in seer.decoded] == [True, False, False, False, False]


def test_scores_stay_beside_their_masks(answerer, seer, helpers):
    x, y, _ = helpers.small
    shown = answerer.answer(asking(point(x, y))).objects["1"]
    size = (answerer.slide.width, answerer.slide.height)
    areas = []
    for index, score in enumerate((0.9, 0.7, 0.4)):
        chosen = shown.choose(index, size)
        assert chosen.score == score
        full = shown.candidates.mask(index, shown.window)
        asked = seer.decoded[0][0][0]
        embedding = answerer.embedding(shown.window)[0]
        want = seer._one(embedding.arrays["dark"], asked, True).masks[index]
        assert np.array_equal(full, want)
        areas.append(chosen.geometry.area)
    assert areas[0] < areas[1]
    assert shown.choose(0, size).geometry.equals(shown.geometry)


def test_an_outline_is_that_of_the_whole_mask_traced_at_once(answerer, helpers):
    from napari_histosam.geometry.masks import mask_to_outline

    x, y, _ = helpers.small
    shown = answerer.answer(asking(point(x, y), point(x + 2, y))).objects["1"]
    whole = mask_to_outline(shown.candidates.mask(0, shown.window), shown.window)
    assert shown.geometry.symmetric_difference(whole).area < 1e-6


def test_logits_go_back_on_the_same_window_only(answerer, seer, helpers):
    x, y, _ = helpers.small
    first = answerer.answer(asking(point(x, y)))
    turned = first.objects["1"].choose(1, (1400, 1200))
    answerer.answer(asking(point(x, y), point(x + 2, y), previous={"1": turned}))
    back = seer.decoded[1][0][0].logits
    assert np.array_equal(back, first.objects["1"].candidates.logits[1])
    far = helpers.large
    answerer.answer(asking(point(x, y), point(*far[:2]), previous=first.objects))
    assert all(one.logits is None for one in seer.decoded[2][0])


def test_another_models_logits_and_windows_are_not_used(slide, answerer, helpers):
    x, y, _ = helpers.small
    first = answerer.answer(asking(point(x, y)))
    other = helpers.seer("other")
    other.weights_hash = "another"
    cache = answerer.cache
    Answerer(slide, other, cache).answer(
        asking(point(x, y), point(x + 2, y), previous=first.objects)
    )
    assert other.decoded[0][0][0].logits is None
    assert len(other.encoded) == 1  # not the first model's embedding


def test_objects_whose_prompts_are_the_same_are_left_alone(answerer, seer, helpers):
    small, near = helpers.small[:2], helpers.near[:2]
    first = answerer.answer(asking(point(*small, "a")))
    turned = {"a": first.objects["a"].choose(2, (1400, 1200))}
    second = answerer.answer(asking(point(*small, "a"), point(*near, "b"), previous=turned))
    assert second.objects["a"] is turned["a"]
    assert len(seer.decoded[1][0]) == 1


def test_a_correction_by_hand_outlives_the_next_click(answerer, seer, helpers):
    x, y, r = helpers.small
    first = answerer.answer(asking(point(x, y))).objects["1"]
    blob = shapely.Point(x, y + 2 * r).buffer(5)
    drawn = first.corrected(first.geometry.union(blob))
    later = answerer.answer(asking(point(x, y), point(x + 2, y), previous={"1": drawn}))
    asked = seer.decoded[1][0][0]
    assert asked.logits is None
    assert asked.mask.sum() == pytest.approx(drawn.geometry.area, rel=0.02)
    shown = later.objects["1"]
    assert shown.geometry.intersects(blob)
    assert shown.drawn
    assert not shown.edited
    assert shown.first is first.first


def test_a_stale_request_is_dropped_before_and_after_encoding(answerer, seer, helpers):
    request = asking(point(*helpers.small[:2]))
    assert answerer.answer(request, stale=lambda: True) is None
    assert seer.encoded == []
    told = iter([False, True])
    assert answerer.answer(request, stale=lambda: next(told)) is None
    assert len(seer.encoded) == 1
    assert seer.decoded == []


def test_an_object_on_the_windows_border_is_recentred(answerer, seer, helpers):
    x, y, r = helpers.border
    shown = answerer.answer(asking(point(x - 30, y), view_scale=1.0)).objects["1"]
    assert iou(shown.geometry, disc(x, y, r)) > 0.95
    assert not shown.cut
    assert shown.window.scale == (1.0, 1.0)
    assert len(seer.encoded) == 2


def test_an_object_larger_than_the_window_goes_coarser(answerer, helpers):
    x, y, r = helpers.large
    shown = answerer.answer(asking(point(x, y), view_scale=1.0)).objects["1"]
    assert iou(shown.geometry, disc(x, y, r)) > 0.95
    assert not shown.cut
    assert shown.window.scale == (4.0, 4.0)


def test_a_mask_that_never_fits_is_shown_and_marked_as_cut(seer):
    dark = np.zeros((6000, 6000, 3), np.uint8)
    with open_array([dark]) as slide:
        shown = Answerer(slide, seer, EmbeddingCache(None)).answer(
            asking(point(3000, 3000), view_scale=0.5)
        )
    assert shown.objects["1"].cut
    assert shown.objects["1"].geometry.area > 0


def test_an_object_at_the_slides_edge_is_not_cut_and_ends_there(answerer, slide, helpers):
    x, y, _ = helpers.corner
    shown = answerer.answer(asking(point(x + 5, y - 5))).objects["1"]
    assert not shown.cut
    left, _, _, bottom = shown.geometry.bounds
    assert left == 0
    assert bottom == slide.height


def test_what_a_model_says_outside_the_slide_is_left_out(slide, seer):
    seer._one = lambda dark, asked, several: _everything(dark)
    shown = Answerer(slide, seer, EmbeddingCache(None)).answer(
        asking(point(20, 20), point(21, 20), view_scale=1.0)
    )
    left, top, _, _ = shown.objects["1"].geometry.bounds
    assert (left, top) == (0, 0)


def _everything(dark):
    from napari_histosam.models.protocols import Candidates

    return Candidates(np.ones((1, *dark.shape), bool), np.ones(1), np.zeros((1, 0, 0), np.float32))


def test_an_object_of_one_pixel(answerer, helpers):
    x, y, _ = helpers.dot
    shown = answerer.answer(
        asking(point(x + 0.5, y + 0.5), point(x + 0.4, y + 0.5), view_scale=1.0)
    ).objects["1"]
    assert shown.geometry.area == 1
    assert shown.geometry.bounds == (x, y, x + 1, y + 1)


def test_an_empty_mask_has_no_outline(answerer):
    shown = answerer.answer(asking(point(700, 40))).objects["1"]
    assert shown.geometry is None
    assert shown.first is None
    assert not shown.cut


def test_very_many_objects_at_once_stay_small_in_memory(answerer, seer):
    rng = np.random.default_rng(1)
    spots = rng.uniform(20, 1180, (1000, 2))
    prompts = [point(x, y, str(i)) for i, (x, y) in enumerate(spots)]
    preview = answerer.answer(asking(*prompts))
    assert list(preview.objects) == [str(i) for i in range(1000)]
    assert max(len(objects) for objects, _ in seer.decoded) <= TOGETHER
    held = sum(
        sum(crop.nbytes for crop in one.candidates.crops) + one.candidates.logits.nbytes
        for one in preview.objects.values()
    )
    whole = 1000 * 3 * seer.card.window_px**2
    assert held < whole / 10


def test_the_first_answer_is_decoded_from_what_the_cache_keeps(slide, helpers):
    seen = []

    class Exact(helpers.seer):
        def encode(self, images):
            made = super().encode(images)
            return type(made)({**made.arrays, "fine": np.array([1 / 3], np.float32)}, made.size)

        def decode(self, embedding, objects, *, multimask=True):
            seen.append(float(embedding.arrays["fine"][0]))
            return super().decode(embedding, objects, multimask=multimask)

    answerer = Answerer(slide, Exact(), EmbeddingCache(None))
    for _ in range(2):
        answerer.answer(asking(point(*helpers.small[:2])))
    assert seen[0] == seen[1] == float(np.float16(1 / 3))


def test_a_pair_of_windows_is_read_round_one_centre(slide, seer, helpers):
    from dataclasses import replace

    images = []
    seer.card = replace(seer.card, window_scales=(1.0, 2.0))
    real = seer.encode

    def encode(pair):
        images.extend(pair)
        return real(pair[:1])

    seer.encode = encode
    x, y, _ = helpers.small
    shown = Answerer(slide, seer, EmbeddingCache(None)).answer(asking(point(x, y))).objects["1"]
    fine, coarse = images
    assert fine.shape == coarse.shape
    middle = slice(64, 192)
    shrunk = fine.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(coarse[middle, middle] - shrunk).mean() < 1
    assert shown.geometry is not None


def test_negative_clicks_alone_name_no_object(answerer):
    with pytest.raises(InputError, match="only negative clicks"):
        answerer.answer(asking(point(300, 300, role="negative")))


def test_the_classical_model_answers_on_real_tissue(sample):
    model = ModelRegistry().load("classical")
    answerer = Answerer(sample, model, EmbeddingCache(None))
    shown = answerer.answer(asking(point(1134, 2027.5))).objects["1"]
    assert shown.geometry.contains(shapely.Point(1134, 2027.5))
    assert 20 < shown.geometry.area * 0.499**2 < 200  # µm²: a nucleus
    box = Prompt(shapely.box(1191, 1993, 1336, 2182), "box")
    follicle = answerer.answer(asking(box)).objects["1"]
    assert box.geometry.buffer(1).contains(follicle.geometry)
    assert follicle.geometry.area > 0.2 * box.geometry.area


def test_glass_and_half_a_window_of_nothing_are_answered(sample):
    model = ModelRegistry().load("classical")
    answerer = Answerer(sample, model, EmbeddingCache(None))
    for at in ((2.0, 2.0), (sample.width - 1.0, sample.height - 1.0), (30.0, 1500.0)):
        shown = answerer.answer(asking(point(*at))).objects["1"]
        assert shown.score <= 1
        if shown.geometry is not None:
            assert shapely.box(0, 0, sample.width, sample.height).covers(shown.geometry)
