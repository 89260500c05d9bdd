"""Masks keep to the prompts, whatever the network says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.small.answers import NOWHERE, Answer, answer, distinct, placed
from napari_histosam.models.small.octaves import Crop

SIZE = (512, 512)
FINE = Crop(0, 64, 96, 112, 112)
COARSE = Crop(1, 32, 48, 112, 112)


def blob(cx: float, cy: float, radius: float, crop: Crop = FINE) -> np.ndarray:
    """Logits of a disc given in window px, at half the crop's resolution."""
    step = 2 * crop.factor
    rows, columns = np.ogrid[: crop.height // 2, : crop.width // 2]
    x = (columns + 0.5) * step + crop.left * crop.factor
    y = (rows + 0.5) * step + crop.top * crop.factor
    return (radius - np.hypot(x - cx, y - cy)).astype(np.float32)


def prompts(*clicks: tuple[float, float, int], box: list[float] | None = None) -> ObjectPrompts:
    return ObjectPrompts(
        points=np.array([c[:2] for c in clicks], float) if clicks else None,
        labels=np.array([c[2] for c in clicks]) if clicks else None,
        box=None if box is None else np.array(box, float),
    )


@pytest.mark.parametrize("crop", [FINE, COARSE])
def test_a_mask_lies_where_the_logits_are(crop):
    found = placed(Answer(crop, blob(120, 150, 15, crop), 0.9), prompts((120, 150, 1)), SIZE)
    rows, columns = np.ogrid[: SIZE[1], : SIZE[0]]
    truth = np.hypot(columns + 0.5 - 120, rows + 0.5 - 150) <= 15
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    assert found.logits.shape == (256, 256)
    low = cv2.resize(found.mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA) > 0.5
    np.testing.assert_array_equal(found.logits > 0, low)
    assert (found.logits[:10] == NOWHERE).all()


def test_only_what_lies_under_the_click_stays():
    two = np.maximum(blob(100, 130, 10), blob(150, 180, 10))
    found = placed(Answer(FINE, two, 0.9), prompts((100, 130, 1)), SIZE)
    assert found.mask[130, 100]
    assert not found.mask[180, 150]
    assert not (found.logits[85:95, 70:80] > 0).any()


def test_a_negative_click_takes_its_place_away_and_a_positive_one_adds_it():
    logits = blob(120, 150, 20)
    asked = prompts((115, 150, 1), (132.5, 150.5, 0), (120.5, 176.5, 1))
    found = placed(Answer(FINE, logits, 0.9), asked, SIZE)
    assert found.mask[150, 115]
    assert not found.mask[150, 132]
    assert found.mask[176, 120]
    without = placed(Answer(FINE, logits, 0.9), prompts((115, 150, 1)), SIZE)
    assert without.mask[150, 132]


def test_a_first_click_that_the_network_sees_nothing_at_gives_nothing():
    found = placed(Answer(FINE, blob(150, 180, 10), 0.1), prompts((100, 130, 1)), SIZE)
    assert not found.mask.any()


def test_a_mask_stays_near_its_box():
    box = [100.0, 130.0, 140.0, 170.0]
    found = placed(Answer(FINE, blob(120, 150, 60), 0.9), prompts(box=box), SIZE)
    rows, columns = np.nonzero(found.mask)
    assert columns.min() >= 98
    assert columns.max() < 142
    assert rows.min() >= 128
    assert rows.max() < 172


def test_distinct_answers_best_first_without_look_alikes():
    answers = [
        Answer(FINE, blob(120, 150, 10), 0.5),
        Answer(FINE, blob(120, 150, 20), 0.9),
        Answer(FINE, blob(120, 150, 20.3), 0.8),
        Answer(COARSE, blob(120, 150, 40, COARSE), 0.7),
        Answer(COARSE, blob(120, 150, 80, COARSE), 0.6),
    ]
    found = distinct(answers, 3, prompts((120, 150, 1)), SIZE)
    assert [one.score for one in found] == [0.9, 0.7, 0.6]
    assert len(distinct(answers, 1, prompts((120, 150, 1)), SIZE)) == 1


def test_there_is_always_an_answer():
    nothing = [Answer(FINE, np.full((56, 56), -5, np.float32), 0.2)] * 2
    found = distinct(nothing, 3, prompts((120, 150, 1)), SIZE)
    assert len(found) == 1
    assert not found[0].mask.any()


def test_an_unusual_size_costs_score_where_the_usual_one_is_known():
    logits = blob(120, 150, 15)
    side = 15 * np.sqrt(np.pi)

    def score(expected):
        return answer(FINE, logits, 0.8, ObjectPrompts(side=expected)).score

    assert score(None) == 0.8
    assert score(side) == pytest.approx(0.8, abs=0.01)
    assert score(4 * side) < 0.6
    assert score(side / 4) < 0.6
