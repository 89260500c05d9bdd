"""One contract for everything that calls itself a PromptModel."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
# Files of decoders that bring none, by the fixture that makes them.
FILES = {
    "mobile-sam": "mobile_file",
    "wsi-sam": "wsi_files",
    "i-medsam": "i_medsam_files",
    "des-sam": "des_sam_file",
}
# I-MedSAM draws every pixel on its own: a smaller window with the same prompts will do.
SMALLER = {"i-medsam": 4}


@dataclass
class Case:
    """A model, a window as it remembers it, and the prompts of one object of every kind."""

    model: PromptModel
    embedding: Embedding
    factor: int = 1

    @property
    def size(self) -> tuple[int, int]:
        return SIZE[0] // self.factor, SIZE[1] // self.factor

    @property
    def prompts(self) -> dict[str, ObjectPrompts]:
        return {name: self.scaled(prompts) for name, prompts in PROMPTS.items()}

    def scaled(self, prompts: ObjectPrompts) -> ObjectPrompts:
        step = self.factor
        points = None if prompts.points is None else prompts.points / step
        box = None if prompts.box is None else prompts.box / step
        mask = None if prompts.mask is None else prompts.mask[::step, ::step]
        return replace(prompts, points=points, box=box, mask=mask)


@pytest.fixture(
    scope="module",
    params=["classical", "histosam-small", "mobile-sam", "wsi-sam", "i-medsam", "des-sam"],
)
def case(
    request: pytest.FixtureRequest,
    session_registry: ModelRegistry,
    he_image: Callable,
) -> Case:
    name = request.param
    given = request.getfixturevalue(FILES[name]) if name in FILES else None
    with pytest.MonkeyPatch.context() as patch:
        if name == "i-medsam":
            request.getfixturevalue("short_vit")(patch)
        model = session_registry.load(name, "cpu", [given] if isinstance(given, Path) else given)
    factor = SMALLER.get(name, 1)
    size = SIZE[1] // factor, SIZE[0] // factor
    seeds = range(3, 3 + len(model.card.window_scales))
    return Case(model, model.encode([he_image(*size, seed) for seed in seeds]), factor)


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
    assert case.embedding.size == case.size
    assert case.embedding.nbytes > 0
    for array in case.embedding.arrays.values():
        assert array.dtype in (np.uint8, np.float16, np.float32)


@pytest.mark.parametrize("kind", PROMPTS)
def test_candidates_have_the_promised_form(case: Case, kind: str) -> None:
    (answer,) = case.model.decode(case.embedding, [case.prompts[kind]])
    count = len(answer.scores)
    assert 1 <= count <= 3
    assert answer.masks.shape == (count, *case.size[::-1])
    assert answer.masks.dtype == bool
    assert answer.scores.dtype == np.float64
    assert ((answer.scores >= 0) & (answer.scores <= 1)).all()
    assert (np.diff(answer.scores) <= 0).all()
    assert answer.logits.dtype == np.float32
    assert len(answer.logits) == count


def test_single_answer(case: Case) -> None:
    for prompts in case.prompts.values():
        (answer,) = case.model.decode(case.embedding, [prompts], multimask=False)
        assert len(answer.masks) == 1


def test_many_objects_get_what_each_gets_alone_in_their_order(case: Case) -> None:
    corners = [case.scaled(point(at)) for at in ((10, 10), (250, 200))]
    objects = [*case.prompts.values(), *corners, case.prompts["box"]]
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
    asked = case.prompts
    mask = asked["mask"].mask
    assert mask is not None
    kept = mask.copy()
    case.model.decode(case.embedding, list(asked.values()))
    for name, array in before.items():
        np.testing.assert_array_equal(case.embedding.arrays[name], array)
    np.testing.assert_array_equal(mask, kept)


def test_masks_stay_nearly_the_same_through_the_cache(case: Case, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache")
    cache.put("k", case.embedding)
    again = EmbeddingCache(tmp_path / "cache").get("k")
    assert again is not None
    for prompts in case.prompts.values():
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
    asked = [
        point((-50, 20)),
        point(SIZE),
        ObjectPrompts(box=np.array([170.0, 140.0, 100.0, 80.0])),
        ObjectPrompts(box=np.array([-40.0, -20.0, 900.0, 700.0])),
    ]
    objects = [case.scaled(prompts) for prompts in asked]
    answers = case.model.decode(case.embedding, objects)
    assert len(answers) == 4
    (right,) = case.model.decode(case.embedding, [case.prompts["box"]])
    np.testing.assert_array_equal(answers[2].masks, right.masks)
