"""SAM-Lung: its files, a new one from a plain SAM, single pictures, classes, rounding off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.cards import Trained
from napari_histosam.models.catalog import card_from_dict, card_to_dict
from napari_histosam.models.sam.attention import GlobalAttention
from napari_histosam.models.sam.build import build_vit
from napari_histosam.models.sam.mona import add_mona
from napari_histosam.models.sam_lung.decoder import PyramidDecoder, SafeBatchNorm2d
from napari_histosam.models.sam_lung.encoder import LungEncoder
from napari_histosam.models.sam_lung.frame import Pixels
from napari_histosam.models.sam_lung.load import fresh, network, save, whole
from napari_histosam.models.sam_lung.loss import cross_entropy, dice_loss, loss, pace
from napari_histosam.models.sam_lung.network import learned, learned_state
from napari_histosam.models.sam_lung.post import rounded, side_px
from napari_histosam.models.trained import base_hash, keep_trained, methods_of, write_trained
from napari_histosam.train.evaluation.areas import Confusion, border_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

SIDE = 64


@pytest.fixture(autouse=True)
def short(short_vit: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of the twelve, so that all here is quick."""
    short_vit(monkeypatch)


@pytest.fixture(scope="module")
def base(
    short_vit: Callable, make_weights: Callable, sam_shapes: Callable
) -> Iterator[dict[str, torch.Tensor]]:
    with pytest.MonkeyPatch.context() as patch:
        short_vit(patch)
        yield make_weights(sam_shapes("vit_b"), 3)


@pytest.fixture
def small(registry: ModelRegistry) -> ModelRegistry:
    """A registry whose SAM-Lung sees small windows."""
    from napari_histosam.models.catalog import write_card

    card = replace(registry.get("sam-lung"), window_px=SIDE)
    write_card(card, registry.folder / "sam-lung.json")
    return registry


def refused(call: Callable, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_new_one_has_sam_s_weights_and_goes_through_its_file(
    small: ModelRegistry, base: dict, tmp_path: Path, he_image: Callable
) -> None:
    state = fresh(base, seed=4)
    vit, ours = "image_encoder.blocks.1.attn.qkv.weight", "blocks.1.original_block.attn.qkv.weight"
    assert torch.equal(state[f"image_encoder.sam.image_encoder.{ours}"], base[vit])
    assert torch.equal(
        state["image_encoder.sam.mask_decoder.iou_token.weight"],
        base["mask_decoder.iou_token.weight"],
    )
    again = fresh(base, seed=4)
    assert all(torch.equal(state[name], value) for name, value in again.items())
    path = tmp_path / "best_model.pth"
    save(state, path)
    model = small.load("sam-lung", "cpu", [path])
    assert isinstance(model, RegionModel)
    image = he_image(50, 40, 1)
    found = model.probabilities(image)
    assert found.shape == (1, 50, 40)
    assert found.dtype == np.float32
    assert ((found > 0) & (found < 1)).all()
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    white[:50, :40] = image
    np.testing.assert_array_equal(model.probabilities(white)[:, :50, :40], found)


def test_windows_that_do_not_fit_are_refused(
    small: ModelRegistry, base: dict, tmp_path: Path
) -> None:
    path = tmp_path / "best_model.pth"
    save(fresh(base), path)
    model = small.load("sam-lung", "cpu", [path])
    assert "cut it into tiles" in refused(model.probabilities, np.zeros((65, 5, 3), np.uint8))
    for shape in ((5, 5), (5,), (5, 5, 4), (0, 5, 3)):
        assert "RGB uint8" in refused(model.probabilities, np.zeros(shape, np.uint8))
    card = replace(model.card, window_px=100)
    assert "multiple of 16 px" in refused(Pixels.of, card)
    card = replace(model.card, recipe={"std": [1, 0, 1]})
    assert "three numbers each" in refused(Pixels.of, card)


def test_wrong_files_are_refused_in_a_sentence(
    small: ModelRegistry, base: dict, tmp_path: Path
) -> None:
    state, path = fresh(base), tmp_path / "x.pth"

    def given(kept: dict) -> tuple[str, str]:
        torch.save(kept, path)
        return refused(small.load, "sam-lung", "cpu", [path]), refused(small.import_file, path)

    adapters = {
        name.removeprefix("image_encoder."): torch.nn.Parameter(value)
        for name, value in state.items()
        if ".mona" in name
    }
    for text in given(adapters):
        assert "only the adapters of SAM-Lung" in text
    decoder = {name: value for name, value in state.items() if name.startswith("mask_decoder.")}
    for text in given(decoder):
        assert "holds SAM's encoder, too" in text
    less = {k: v for k, v in state.items() if "blocks.1.mona2.gammax" not in k}
    for text in given({"model": less}):
        assert "missing image_encoder.sam.image_encoder.blocks.1.mona2.gammax" in text
    torch.save(base, path)
    text = refused(small.load, "sam-lung", "cpu", [path])
    assert "from which a SAM-Lung can be trained" in text
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    assert "not like SAM-Lung" in refused(small.load, "sam-lung", "cpu", [path])
    one = {**state, "mask_decoder.classifier.weight": torch.zeros(1, 64, 1, 1)}
    one["mask_decoder.classifier.bias"] = torch.zeros(1)
    assert "no class beside the background" in given({"model": one})[0]
    assert "does not fit SAM vit_b" in refused(fresh, {"fc.weight": torch.zeros(2, 2)})


def test_an_imported_file_becomes_a_model(
    small: ModelRegistry, base: dict, tmp_path: Path, he_image: Callable
) -> None:
    """Under its own name, or in the place of the card that has none."""
    path = tmp_path / "lung areas.pth"
    save(fresh(base, cbam=False), path)
    assert not small.is_ready("sam-lung")
    card = small.import_file(path)
    assert (card.name, card.decoder, card.finds) == ("lung-areas", "sam-lung", "regions")
    assert small.load("lung-areas", "cpu").probabilities(he_image(32, 32, 1)).shape == (1, 32, 32)
    assert small.import_file(path, "sam-lung").name == "sam-lung"
    assert small.is_ready("sam-lung")
    assert methods_of(card) == ("decoder", "mona")


def test_several_classes_are_numbered_where_nothing_names_them(
    small: ModelRegistry, base: dict, tmp_path: Path, he_image: Callable
) -> None:
    path = tmp_path / "three.pth"
    save(fresh(base, classes=3), path)
    said: list[str] = []
    model = small.load("sam-lung", "cpu", [path], said.append)
    assert model.card.classes == ("Class 1", "Class 2", "Class 3")
    assert any("numbered" in text for text in said)
    found = model.probabilities(he_image(SIDE, SIDE, 2))
    assert found.shape == (3, SIDE, SIDE)
    assert (found.sum(0) < 1).all()


def test_what_was_trained_and_its_base_make_the_model(
    small: ModelRegistry, base: dict, tmp_path: Path, he_image: Callable
) -> None:
    """The own file holds what was learned alone; the base is a plain SAM."""
    path = tmp_path / "mini.pth"
    torch.save(base, path)
    small.import_file(path, "mini")
    state = fresh(base, seed=9)
    net = network(state, "new")
    own = learned_state(net)
    assert set(learned(net)) < set(own)
    mixed = whole({**base, **own}, "both")
    assert set(mixed) == set(state)
    assert all(torch.equal(mixed[name], value) for name, value in state.items())
    file = tmp_path / "own.safetensors"
    write_trained(file, own, {})
    assert file.stat().st_size < 5_000_000
    origin = Trained("mini", base_hash(small, "mini"), "mona", "d", "sha256:0", 9, "2026-01-01")
    keep_trained(small, replace(small.get("sam-lung"), name="mine", files=(), trained=origin), file)
    assert small.is_ready("mine")
    save(state, tmp_path / "best_model.pth")
    image = he_image(SIDE, SIDE, 5)
    wanted = small.load("sam-lung", "cpu", [tmp_path / "best_model.pth"]).probabilities(image)
    np.testing.assert_array_equal(small.load("mine", "cpu").probabilities(image), wanted)
    assert "holds SAM's encoder, too" in refused(network, own, "own.safetensors")


def test_unpublished_weights_are_told_as_such(registry: ModelRegistry) -> None:
    card = registry.get("sam-lung")
    assert not registry.is_ready(card.name)
    assert "No weights of it are published" in card.note
    text = refused(registry.load, "sam-lung")
    assert "published nowhere" in text


def test_the_recipe_of_a_card_is_kept(registry: ModelRegistry) -> None:
    card = replace(registry.get("sam-lung"), recipe={"encoder": "sam", "mean": [0.5, 0.5, 0.5]})
    assert card_from_dict(card_to_dict(card)) == card
    assert "recipe" not in card_to_dict(registry.get("classical"))
    with pytest.raises(ValueError, match="names and values"):
        card_from_dict({**card_to_dict(card), "recipe": ["encoder"]})


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_attention_in_steps_is_segment_anything_s(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_histosam.models.sam import attention

    torch.manual_seed(0)
    block = build_vit("vit_b", 256).blocks[0]
    for table in (block.attn.rel_pos_h, block.attn.rel_pos_w):
        torch.nn.init.normal_(table, std=0.3)
    x = torch.randn(2, size[0] // 8, size[1] // 8, 768)
    with torch.no_grad():
        wanted = block.attn(x)
        for most in (1, 1 << 16, 1 << 30):
            monkeypatch.setattr(attention, "_STEP_CPU", most)
            torch.testing.assert_close(GlobalAttention(block.attn)(x), wanted, atol=2e-6, rtol=1e-5)


def test_an_encoder_as_sam_keeps_windows_and_positions() -> None:
    torch.manual_seed(0)
    vit = build_vit("vit_b", 256)
    add_mona(vit, identity=False)
    torch.nn.init.normal_(vit.pos_embed)
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        wanted = vit.eval()(x)
        torch.testing.assert_close(LungEncoder(vit, as_sam=True).eval()(x), wanted)
        assert (LungEncoder(vit).eval()(x) - wanted).abs().max() > 0.1


def test_a_single_picture_can_be_learned_from() -> None:
    torch.manual_seed(0)
    decoder = PyramidDecoder(2, cbam=True).train()
    first = decoder.psp_module.stages[0][3]
    assert isinstance(first, SafeBatchNorm2d)
    out = decoder(torch.randn(1, 256, 4, 4), (32, 32))
    out.square().mean().backward()
    assert int(first.num_batches_tracked) == 0
    assert int(decoder.psp_module.stages[1][3].num_batches_tracked) == 1
    assert all(part.grad is not None for part in decoder.parameters())
    decoder(torch.randn(2, 256, 4, 4), (32, 32))
    assert int(first.num_batches_tracked) == 1


def test_unlabelled_px_count_for_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    target = torch.randint(0, 4, (2, 8, 8))
    target[:, :3] = 255
    other = logits.detach().clone()
    other[:, :, :3] += torch.randn(2, 4, 3, 8)
    for term in (cross_entropy, dice_loss, loss):
        torch.testing.assert_close(term(logits, target), term(other, target))
    loss(logits, target).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :3].any()
    nothing = torch.full((2, 8, 8), 255)
    unknown = loss(logits, nothing)
    assert torch.isfinite(unknown)
    logits.grad = None
    unknown.backward()
    assert not logits.grad.any()


def test_every_class_is_learned_where_there_are_several() -> None:
    torch.manual_seed(0)
    logits = torch.zeros(1, 4, 8, 8, requires_grad=True)
    target = torch.arange(4).repeat_interleave(16).reshape(1, 8, 8)
    for _ in range(200):
        (grad,) = torch.autograd.grad(loss(logits, target), logits)
        logits = (logits - 20 * grad).detach().requires_grad_(True)
    assert torch.equal(logits.argmax(1), target)
    assert float(loss(logits.detach(), target)) < 0.05


def test_a_training_of_one_epoch_does_not_divide_by_nothing() -> None:
    assert pace(0, 10, 1) == pytest.approx(1e-3)
    assert pace(10, 10, 1) == pace(25, 10, 1) == 1


masks = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(masks, st.sampled_from([1, 3, 5, 9, 71]))
def test_rounding_off_twice_is_rounding_off_once(mask: np.ndarray, side: int) -> None:
    once = rounded(mask, side)
    np.testing.assert_array_equal(rounded(once, side), once)
    np.testing.assert_array_equal(rounded(mask.T, side), once.T)
    np.testing.assert_array_equal(rounded(mask, 1), mask)
    np.testing.assert_array_equal(rounded(mask, None), mask)


def test_rounding_off_takes_what_is_narrow_and_has_an_off_switch() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:45, 5:45] = True
    mask[20:23, 20:23] = False  # a gap
    mask[50:53, 50:53] = True  # an island
    found = rounded(mask, 7)
    assert found[21, 21]
    assert not found[51, 51]
    assert rounded(np.zeros((0, 5), bool)).shape == (0, 5)
    for side in (0, -1, 4):
        with pytest.raises(ValueError, match="odd number"):
            rounded(mask, side)
    assert side_px(71, 1.0) == 71
    assert side_px(50, 0.5) == 101
    assert side_px(None, 0.5) is None
    assert side_px(1.0, 2.0) is None


@given(masks, st.data())
def test_figures_of_two_masks(found: np.ndarray, data: st.DataObject) -> None:
    truth = data.draw(hnp.arrays(bool, found.shape))
    counts = Confusion.of(found.astype(int), truth.astype(int), 2)
    assert counts.counts.sum() == found.size
    assert counts.accuracy == pytest.approx((found == truth).mean())
    union = (found | truth).sum()
    if union:
        assert counts.iou[1] == pytest.approx((found & truth).sum() / union)
        assert counts.dice[1] == pytest.approx(2 * counts.iou[1] / (1 + counts.iou[1]))
    both = Confusion.of(truth.astype(int), truth.astype(int), 2)
    assert (counts + both).counts.sum() == 2 * found.size
    away = border_distance(found, truth)
    assert away == border_distance(truth, found)
    assert (away is None) == (found.any() != truth.any())
    assert border_distance(truth, truth) == 0
