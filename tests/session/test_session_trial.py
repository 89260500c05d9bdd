"""Trials: prompts on one image without a store, answered as the session answers them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_histosam import Session
from napari_histosam.errors import InputError
from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.models import EmbeddingCache
from napari_histosam.session.trial import Trial
from napari_histosam.session.windows import SCREEN
from napari_histosam.slide.open import open_array

WIDTH, HEIGHT = 1400, 1200


@pytest.fixture
def trial(slide, seer):
    return Trial(slide, seer, EmbeddingCache(None))


@pytest.fixture
def painted(picture, helpers):
    """Return the mask of one painted disc."""

    def mask(disc):
        alone = helpers.paint(WIDTH, HEIGHT, disc)
        return (alone[..., 0] < 128) & (picture[..., 0] < 128)

    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def click(disc, positive=True):
    return (disc[0] + 0.5, disc[1] + 0.5, positive)


def test_a_click_gets_masks_on_the_images_grid(trial, helpers, painted):
    answer = trial.ask([click(helpers.small)], None)
    assert len(answer.masks) == len(answer.scores) == 3
    assert answer.scores == [0.9, 0.7, 0.4]
    assert all(mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool for mask in answer.masks)
    assert np.array_equal(answer.masks[0], painted(helpers.small))
    assert answer.masks[1].sum() > answer.masks[0].sum()  # a little larger
    assert not (answer.masks[0] & ~answer.masks[1]).any()


def test_a_box_gets_what_is_in_it(trial, helpers, painted, seer):
    x, y, r = helpers.near
    answer = trial.ask([], np.array([x - r - 3.0, y - r - 2, x + r + 4, y + r + 3]))
    assert np.array_equal(answer.masks[0], painted(helpers.near))
    ((asked,), _) = seer.decoded[-1]
    assert asked.points is None
    assert (asked.box[2:] - asked.box[:2]).tolist() == [2 * r + 7, 2 * r + 5]


def test_a_box_over_the_images_edge_is_clipped(trial, helpers, painted, seer):
    x, y, r = helpers.corner
    answer = trial.ask([], np.array([x - r - 2.0, y - r - 2, x + r + 2, y + r + 2]))
    assert np.array_equal(answer.masks[0], painted(helpers.corner))
    ((asked,), _) = seer.decoded[-1]
    assert (asked.box[2:] - asked.box[:2]).tolist() == [x + r + 2, HEIGHT - (y - r - 2)]


def test_an_object_larger_than_a_window(trial, helpers, painted):
    answer = trial.ask([click(helpers.large)], None)
    assert iou(answer.masks[0], painted(helpers.large)) > 0.95


def test_nothing_is_an_empty_mask(trial):
    answer = trial.ask([(700.5, 900.5, True)], None)
    assert answer.masks[0].shape == (HEIGHT, WIDTH)
    assert not answer.masks[0].any()


def test_further_clicks_follow_up_on_the_answer(trial, helpers, painted, seer):
    first = trial.ask([click(helpers.small)], None)
    both = trial.ask([click(helpers.small), click(helpers.near)], None)
    assert np.array_equal(both.masks[0], painted(helpers.small) | painted(helpers.near))
    ((asked,), _) = seer.decoded[-1]
    assert asked.labels.tolist() == [1, 1]
    assert asked.logits is not None  # of the first answer
    assert asked.logits.max() == 10 * (len(seer.decoded) - 1)
    parted = trial.ask(
        [click(helpers.small), click(helpers.near), click(helpers.near, False)], None
    )
    assert np.array_equal(parted.masks[0], first.masks[0])
    ((asked,), _) = seer.decoded[-1]
    assert asked.labels.tolist() == [1, 1, 0]


def test_another_object_starts_afresh(trial, helpers, painted, seer):
    trial.ask([click(helpers.small)], None)
    trial.ask([click(helpers.small), click(helpers.near)], None)
    trial.forget()
    again = trial.ask([click(helpers.small), click(helpers.near)], None)
    ((asked,), _) = seer.decoded[-1]
    assert asked.logits is None
    assert asked.mask is None
    assert len(seer.decoded) == 3
    assert np.array_equal(again.masks[0], painted(helpers.small) | painted(helpers.near))


def test_times(trial, helpers, seer):
    first = trial.ask([click(helpers.small)], None)
    assert first.encode_ms > 0
    assert first.decode_ms > 0
    trial.forget()
    second = trial.ask([(304.5, 302.5, True)], None)
    assert second.encode_ms == 0  # the window is known
    assert second.decode_ms > 0
    assert len(seer.encoded) == 1


def test_it_looks_at_the_image_as_a_whole(seer):
    # Four screens wide: a quarter of the resolution is what a window shows of it.
    large = np.full((400, 4 * SCREEN, 3), 235, np.uint8)
    large[100:300, 2000:2200] = 40
    with open_array([large], None, "large") as slide:
        trial = Trial(slide, seer, EmbeddingCache(None))
        trial.ask([], np.array([1990.0, 90, 2210, 310]))
    ((asked,), _) = seer.decoded[-1]
    assert (asked.box[2:] - asked.box[:2]).tolist() == [55, 55]


def test_a_session_at_that_zoom_answers_the_same(slide, shelf, seer, helpers):
    prompts = [
        ([click(helpers.small)], None),
        ([click(helpers.large)], None),
        ([], np.array([560.0, 80, 645, 175])),
        ([click(helpers.small), click(helpers.near), click(helpers.border)], None),
    ]
    whole = Window(WIDTH / 2, HEIGHT / 2, (1.0, 1.0), (WIDTH, HEIGHT))
    for clicks, box in prompts:
        trial = Trial(slide, seer, EmbeddingCache(None))
        with Session(slide, model="seer", registry=shelf) as session:
            session.view_scale = WIDTH / SCREEN
            if box is not None:
                session.add_box(*box)
                answer = trial.ask([], box)
            for number, (x, y, positive) in enumerate(clicks, 1):
                session.add_point(x, y, positive=positive)
                answer = trial.ask(clicks[:number], None)
            shown = session.preview.objects["1"]
            assert np.array_equal(answer.masks[0], polygons_to_mask(shown.geometry, whole))
            assert answer.scores[0] == shown.score


def test_prompts_that_the_model_does_not_take(slide, helpers):
    trial = Trial(slide, helpers.seer(prompts=("point",)), EmbeddingCache(None))
    trial.ask([click(helpers.small)], None)
    with pytest.raises(InputError, match="takes no box"):
        trial.ask([], np.array([10.0, 10, 40, 40]))
    with pytest.raises(InputError, match="takes no negative click"):
        trial.ask([click(helpers.small), click(helpers.near, False)], None)
