"""One contract for everything that calls itself a PromptModel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import Embedding, ObjectPrompts, PromptModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.models.registry import ModelRegistry

SIZE = (320, 256)


@dataclass
class Case:
    model: PromptModel
    embedding: Embedding


@pytest.fixture(scope="module", params=["classical", "histosam-small", "mobile-sam", "wsi-sam"])
def case(
    request: pytest.FixtureRequest,
    session_registry: ModelRegistry,
    he_image: Callable,
) -> Case:
    name = request.param
    files = {"mobile-sam": "mobile_file", "wsi-sam": "wsi_files"}
    given = request.getfixturevalue(files[name]) if name in files else None
    model = session_registry.load(name, "cpu", [given] if isinstance(given, Path) else given)
    seeds = range(3, 3 + len(model.card.window_scales))
    return Case(model, model.encode([he_image(SIZE[1], SIZE[0], seed) for seed in seeds]))


def point(*places: tuple[float, float], labels: list[int] | None = None) -> ObjectPrompts:
    return ObjectPrompts(
        points=np.array(places, float), labels=np.array(labels or [1] * len(places))
    )


def drawn() -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[80:140, 100:170] = True
    return mask


PROMPTS = {
    "click": point((160.5, 120.5)),
    "clicks": point((160.5, 120.5), (30.2, 40.0), labels=[1, 0]),
    "box": ObjectPrompts(box=np.array([100.0, 80.0, 170.0, 140.0])),
    "box and click": ObjectPrompts(
        points=np.array([[130.0, 100.0]]), labels=np.array([1]), box=np.array([100.0, 80, 170, 140])
    ),
    "mask": ObjectPrompts(mask=drawn()),
    "mask and click": ObjectPrompts(
        points=np.array([[130.0, 100.0]]), labels=np.array([0]), mask=drawn()
    ),
    "scribble": point(*[(100.0 + 3 * i, 90.0 + i) for i in range(20)]),
}


def test_it_is_a_prompt_model(case: Case) -> None:
    assert isinstance(case.model, PromptModel)
    assert len(case.model.weights_hash) == 64
    assert case.model.device == "cpu"
    assert case.embedding.size == SIZE
    assert case.embedding.nbytes > 0
    for array in case.embedding.arrays.values():
        assert array.dtype in (np.uint8, np.float16, np.float32)


@pytest.mark.parametrize("kind", PROMPTS)
def test_candidates_have_the_promised_form(case: Case, kind: str) -> None:
    (answer,) = case.model.decode(case.embedding, [PROMPTS[kind]])
    count = len(answer.scores)
    assert 1 <= count <= 3
    assert answer.masks.shape == (count, SIZE[1], SIZE[0])
    assert answer.masks.dtype == bool
    assert answer.scores.dtype == np.float64
    assert ((answer.scores >= 0) & (answer.scores <= 1)).all()
    assert (np.diff(answer.scores) <= 0).all()
    assert answer.logits.dtype == np.float32
    assert len(answer.logits) == count


def test_single_answer(case: Case) -> None:
    for prompts in PROMPTS.values():
        (answer,) = case.model.decode(case.embedding, [prompts], multimask=False)
        assert len(answer.masks) == 1


def test_many_objects_get_what_each_gets_alone_in_their_order(case: Case) -> None:
    objects = [*PROMPTS.values(), point((10, 10)), point((250, 200)), PROMPTS["box"]]
    together = case.model.decode(case.embedding, objects)
    assert len(together) == len(objects)
    for prompts, answer in zip(objects, together, strict=True):
        (alone,) = case.model.decode(case.embedding, [prompts])
        np.testing.assert_allclose(answer.scores, alone.scores, atol=1e-3)
        np.testing.assert_allclose(answer.logits, alone.logits, atol=1e-3)
        assert (answer.masks != alone.masks).mean() < 1e-3


def test_no_objects_no_answers(case: Case) -> None:
    assert case.model.decode(case.embedding, []) == []


def test_decoding_does_not_change_the_embedding_or_prompts(case: Case) -> None:
    before = {k: v.copy() for k, v in case.embedding.arrays.items()}
    mask = PROMPTS["mask"].mask
    assert mask is not None
    kept = mask.copy()
    case.model.decode(case.embedding, list(PROMPTS.values()))
    for name, array in before.items():
        np.testing.assert_array_equal(case.embedding.arrays[name], array)
    np.testing.assert_array_equal(mask, kept)


def test_masks_stay_nearly_the_same_through_the_cache(case: Case, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache")
    cache.put("k", case.embedding)
    again = EmbeddingCache(tmp_path / "cache").get("k")
    assert again is not None
    for prompts in PROMPTS.values():
        (first,) = case.model.decode(case.embedding, [prompts], multimask=False)
        (second,) = case.model.decode(again, [prompts], multimask=False)
        union = (first.masks | second.masks).sum()
        assert union == 0 or (first.masks & second.masks).sum() / union > 0.99


@pytest.mark.parametrize(
    "prompts",
    [
        ObjectPrompts(),
        ObjectPrompts(points=np.zeros((0, 2)), labels=np.zeros(0, int)),
        point((float("nan"), 3)),
        ObjectPrompts(points=np.ones((2, 2)), labels=np.array([1])),
        ObjectPrompts(points=np.ones((1, 2)), labels=np.array([2])),
        ObjectPrompts(box=np.array([1.0, 2, np.inf, 4])),
        ObjectPrompts(box=np.array([1.0, 2, 3])),
        ObjectPrompts(mask=np.zeros((5, 5), bool)),
    ],
)
def test_bad_prompts_are_refused_in_one_sentence(case: Case, prompts: ObjectPrompts) -> None:
    with pytest.raises(InputError) as caught:
        case.model.decode(case.embedding, [point((5, 5)), prompts])
    assert "Object 2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (0, 10, 3)])
def test_bad_images_are_refused(case: Case, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="RGB uint8"):
        case.model.encode([np.zeros(shape, np.uint8)])


def test_prompts_beyond_the_window_and_boxes_drawn_backwards_work(case: Case) -> None:
    objects = [
        point((-50, 20)),
        point((SIZE[0], SIZE[1])),
        ObjectPrompts(box=np.array([170.0, 140.0, 100.0, 80.0])),
        ObjectPrompts(box=np.array([-40.0, -20.0, 900.0, 700.0])),
    ]
    answers = case.model.decode(case.embedding, objects)
    assert len(answers) == 4
    (right,) = case.model.decode(case.embedding, [PROMPTS["box"]])
    np.testing.assert_array_equal(answers[2].masks, right.masks)
