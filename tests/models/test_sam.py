"""Decoder `sam` against segment-anything's own predictor, and its loading rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry

from napari_histosam.errors import InputError
from napari_histosam.models.protocols import Embedding, ObjectPrompts
from napari_histosam.models.sam.build import build_sam, load_sam
from napari_histosam.models.sam.encoder import encode_features
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.model import SamModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

WINDOW = (900, 700)


@dataclass
class Pair:
    """The same weights and window in segment-anything's predictor and in ours."""

    predictor: SamPredictor
    model: SamModel
    embedding: Embedding
    size: tuple[int, int]


@pytest.fixture(scope="module")
def vit_b(
    session_registry: ModelRegistry,
    make_weights: Callable,
    he_image: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    theirs = sam_model_registry["vit_b"]()
    shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    state = make_weights(shapes, 3)
    theirs.load_state_dict(state)
    path = tmp_path_factory.mktemp("vit_b") / "own_sam.pth"
    torch.save({"model_state": {f"sam.{k}": v for k, v in state.items()}, "epoch": 3}, path)
    del state
    model = session_registry.load("sam", "cpu", [path])
    path.unlink()
    assert isinstance(model, SamModel)
    assert model.card.name == "sam-vit-b"
    image = he_image(WINDOW[1], WINDOW[0], 1)
    predictor = SamPredictor(theirs.eval())
    predictor.set_image(image)
    return Pair(predictor, model, model.encode([image]), WINDOW)


@pytest.fixture(scope="module", params=[(1024, 1024), (333, 512), (1500, 900), (1024, 640)])
def tiny(
    request: pytest.FixtureRequest,
    session_registry: ModelRegistry,
    mobile_file: Path,
    he_image: Callable,
) -> Pair:
    model = session_registry.load("mobile-sam", "cpu", [mobile_file])
    assert isinstance(model, SamModel)
    width, height = request.param
    image = he_image(height, width, 2)
    predictor = SamPredictor(model._sam)
    predictor.set_image(image)
    return Pair(predictor, model, model.encode([image]), (width, height))


def cases(size: tuple[int, int]) -> dict[str, tuple[ObjectPrompts, dict[str, Any]]]:
    """Our prompts (corner based) beside what the predictor takes for them (pixel indices)."""
    span = np.array(size, float)
    one = span * (0.4, 0.55)
    three = span * ((0.2, 0.3), (0.6, 0.7), (0.9, 0.1))
    labels = np.array([1, 1, 0])
    box = np.concatenate([span * (0.3, 0.2), span * (0.8, 0.75)])
    logits = np.random.default_rng(0).normal(0, 5, (256, 256)).astype(np.float32)
    indices = {"point_coords": three - 0.5, "point_labels": labels}
    return {
        "one point": (
            ObjectPrompts(points=one[None], labels=labels[:1]),
            {"point_coords": one[None] - 0.5, "point_labels": labels[:1]},
        ),
        "three points": (ObjectPrompts(points=three, labels=labels), indices),
        "box": (ObjectPrompts(box=box), {"box": box - 0.5}),
        "box and points": (
            ObjectPrompts(points=three, labels=labels, box=box),
            {**indices, "box": box - 0.5},
        ),
        "mask": (ObjectPrompts(logits=logits), {"mask_input": logits[None]}),
        "mask and points": (
            ObjectPrompts(points=three, labels=labels, logits=logits),
            {**indices, "mask_input": logits[None]},
        ),
    }


@pytest.mark.slow
def test_vit_b_equals_segment_anything(vit_b: Pair) -> None:
    check_equal(vit_b)


def test_mobile_sam_in_windows_of_any_size_equals_segment_anything(tiny: Pair) -> None:
    check_equal(tiny)


def check_equal(pair: Pair) -> None:
    """All prompt kinds in one decoder call, against one predictor call each."""
    theirs = pair.predictor.get_image_embedding()[0].numpy()
    assert np.abs(pair.embedding.arrays["embedding"] - theirs).max() <= 1e-4
    prompts = cases(pair.size)
    answers = pair.model.decode(pair.embedding, [ours for ours, _ in prompts.values()])
    for (name, (_, given)), answer in zip(prompts.items(), answers, strict=True):
        several = name == "one point"
        masks, scores, logits = pair.predictor.predict(**given, multimask_output=several)
        order = np.argsort(-scores, kind="stable")
        assert len(answer.scores) == (3 if several else 1)
        assert np.abs(answer.logits - logits[order]).max() <= 1e-3, name
        assert np.abs(answer.scores - scores[order].clip(0, 1)).max() <= 1e-4, name
        assert answer.masks.shape == masks.shape
        assert (answer.masks != masks[order]).mean() <= 1e-4, name


def test_each_score_stands_beside_its_own_mask(tiny: Pair) -> None:
    ours, given = cases(tiny.size)["one point"]
    (answer,) = tiny.model.decode(tiny.embedding, [ours])
    _, scores, logits = tiny.predictor.predict(**given)
    assert len(set(scores)) == 3
    for place in range(3):
        theirs = int(np.abs(logits - answer.logits[place]).max((1, 2)).argmin())
        assert answer.scores[place] == pytest.approx(scores[theirs].clip(0, 1), abs=1e-4)


def test_many_objects_are_cut_into_bounded_steps(tiny: Pair) -> None:
    ours = cases(tiny.size)["one point"][0]
    objects = [ours] * 9
    sizes = []
    raw = tiny.model.raw

    def spy(features: torch.Tensor, batch: Any) -> Any:
        sizes.append(len(batch.numbers))
        return raw(features, batch)

    tiny.model.raw = spy  # type: ignore[method-assign]
    try:
        answers = tiny.model.decode(tiny.embedding, objects, multimask=False)
    finally:
        del tiny.model.raw  # type: ignore[method-assign]
    assert sizes == [4, 4, 1]
    assert len(answers) == 9


def test_out_of_memory_steps_down_and_says_so(tiny: Pair) -> None:
    said: list[str] = []
    model = SamModel(tiny.model.card, tiny.model._sam, "0" * 64, "cpu", said.append)
    raw = model.raw

    def hungry(features: torch.Tensor, batch: Any) -> Any:
        if len(batch.numbers) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return raw(features, batch)

    model.raw = hungry  # type: ignore[method-assign]
    objects = [cases(tiny.size)["one point"][0]] * 3
    assert len(model.decode(tiny.embedding, objects)) == 3
    assert said == [
        "Not enough memory on cpu: going on with smaller batches (2).",
        "Not enough memory on cpu: going on with smaller batches (1).",
    ]


def test_drawn_mask_becomes_logits_in_the_square() -> None:
    mask = np.zeros((100, 200), bool)
    mask[:, :100] = True
    logits = Frame((200, 100)).mask_logits(mask)
    assert logits.shape == (256, 256)
    assert (logits[:126, :126] == 10).all()
    assert (logits[:126, 130:] == -10).all()
    assert (logits[128:] == -10).all()  # padding
    assert abs(float((logits > 0).mean()) - 0.25) < 0.01


def test_whole_window_of_1024_is_not_resampled(he_image: Callable) -> None:
    image = he_image(1024, 1024, 1)
    frame = Frame((1024, 1024))
    x = frame.image(image)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    np.testing.assert_allclose(x[0, :, 5, 7].numpy(), (image[5, 7] - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(frame.points(np.array([[3.0, 4.5]])), [[2.5, 4.0]])


def test_medsam_pixels_are_stretched(he_image: Callable) -> None:
    image = he_image(512, 512, 1)
    x = Frame((512, 512)).image(image, "minmax")
    assert x.shape == (1, 3, 1024, 1024)
    assert x.min() == 0
    assert x.max() == 1


def test_early_feature_of_a_vit_comes_after_the_first_global_block(
    make_weights: Callable,
) -> None:
    encoder = build_sam("vit_b").image_encoder
    shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items()}
    encoder.load_state_dict(make_weights(shapes, 1))
    caught: list[torch.Tensor] = []
    encoder.blocks[2].register_forward_hook(lambda *a: caught.append(a[2]))
    x = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    del encoder.blocks[3:]  # the rest changes neither and takes its time
    with torch.inference_mode():
        embedding, early = encode_features(encoder, x)
    assert embedding.shape == (1, 256, 64, 64)
    assert early.shape == (1, 768, 64, 64)
    assert torch.equal(early, caught[0].permute(0, 3, 1, 2))


def test_biases_loaded_after_a_forward_pass_count(sam_shapes: Callable, make_weights: Callable):
    shapes = sam_shapes("vit_t")
    x = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    first = load_sam(make_weights(shapes, 1), "a").image_encoder
    second = load_sam(make_weights(shapes, 2), "b").image_encoder
    with torch.inference_mode():
        first(x)
        first.load_state_dict(second.state_dict())
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("variant", ["vit_b", "vit_l", "vit_h", "vit_t"])
def test_published_shapes(variant: str, sam_shapes: Callable) -> None:
    found = sam_shapes(variant)
    entries = {"vit_b": 314, "vit_l": 482, "vit_h": 594, "vit_t": 439}
    assert len(found) == entries[variant]
    if variant == "vit_b":
        theirs = sam_model_registry["vit_b"]().state_dict()
        assert {k: tuple(v.shape) for k, v in theirs.items()} == found


def test_mismatch_names_the_first_keys_and_the_size(mobile_file: Path) -> None:
    state = torch.load(mobile_file, weights_only=True)
    with pytest.raises(InputError) as caught:
        load_sam(state, "mobile_sam.pt", "vit_b")
    text = str(caught.value)
    assert "image_encoder.pos_embed" in text
    assert "more" in text
    assert "vit_t" in text
    del state["mask_decoder.iou_token.weight"]
    with pytest.raises(InputError, match=r"iou_token|does not fit"):
        load_sam(state, "mobile_sam.pt", "vit_t")
    wrong = torch.load(mobile_file, weights_only=True)
    wrong["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 128)
    with pytest.raises(InputError, match=r"no_mask_embed\.weight 1x128 in place of 1x256"):
        load_sam(wrong, "mobile_sam.pt")
