"""EP-SAM: its files, new ones from a plain SAM, channels and frames, the gate, heat and points."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.cards import Trained
from napari_histosam.models.catalog import write_card
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.ep_sam.cam import PROFILES, Heat
from napari_histosam.models.ep_sam.classifier import detail
from napari_histosam.models.ep_sam.frame import Recipe
from napari_histosam.models.ep_sam.load import fresh, save_part, state_of
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.ep_sam.points import agreement, drawn, generator_of
from napari_histosam.models.trained import base_hash, keep_trained, methods_of, write_trained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

SIDE = 128


@pytest.fixture(scope="module")
def files(
    short_vit: Callable,
    make_weights: Callable,
    sam_shapes: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Path]]:
    """The three files, for a ViT of two blocks."""
    folder = tmp_path_factory.mktemp("ep_sam")
    paths = {
        "encoder": folder / "sam_vit_b.pth",
        "classifier": folder / "camelyon16_resnet_adl.pth",
        "decoder": folder / "camelyon16_decoder_iter3.pth",
    }
    with pytest.MonkeyPatch.context() as patch:
        short_vit(patch)
        sam = make_weights(sam_shapes("vit_b"), 3)
        torch.save(sam, paths["encoder"])
        for name, state in fresh(sam, seed=4).items():
            save_part(state, paths[name])
        yield paths


@pytest.fixture
def small(registry: ModelRegistry, files: dict[str, Path]) -> ModelRegistry:
    """A registry whose EP-SAM sees small patches, as models do that are made here."""
    card = replace(registry.get("ep-sam"), window_px=SIDE, recipe={})
    write_card(card, registry.folder / "ep-sam.json")
    return registry


@pytest.fixture
def model(small: ModelRegistry, files: dict[str, Path]) -> EpSamModel:
    loaded = small.load("ep-sam", "cpu", list(files.values()))
    assert isinstance(loaded, EpSamModel)
    loaded.net.embedded = embedded  # type: ignore[method-assign]
    return loaded


def embedded(patch: np.ndarray) -> torch.Tensor:
    """Stand for SAM's encoder, which takes seconds: a mix of the patch's colours."""
    x = torch.from_numpy(patch.transpose(2, 0, 1).copy())[None].float() / 255
    mix = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
    return torch.einsum("kc,nchw->nkhw", mix, functional.adaptive_avg_pool2d(x, 64))


def refused(call: Callable, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def warmed(model: EpSamModel, by: float) -> None:
    """Have everything speak for tumour, or nothing."""
    with torch.no_grad():
        model.net.classifier.fc.weight.fill_(by)


def test_files_have_the_authors_names_and_come_back(
    model: EpSamModel, files: dict[str, Path]
) -> None:
    kept = state_of(model.net)
    assert len(kept["classifier"]) == 320
    assert len(kept["decoder"]) == 120
    assert "layer3.1.conv1.weight" not in kept["classifier"]
    for part, state in kept.items():
        raw = torch.load(files[part], weights_only=True)
        assert set(raw) == set(state)
        assert all(torch.equal(raw[name], value) for name, value in state.items())


def test_the_gate_and_an_empty_heat_map_leave_nothing(
    model: EpSamModel, he_image: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(model, RegionModel)
    image = he_image(100, SIDE, 1)
    warmed(model, -1.0)
    assert model.tumour(image) < 0.5
    assert not model.probabilities(image).any()
    monkeypatch.setattr(model, "recipe", replace(model.recipe, gate=0.0))
    proposal = model.propose(image)  # nothing is warm, so nothing is asked of SAM
    assert not proposal.warm.any()
    assert proposal.points.shape == (0, 2)
    assert not proposal.likely.any()
    assert proposal.agreement == 0
    assert not model.probabilities(image).any()


def test_a_patch_gets_the_same_answer_every_time(model: EpSamModel, he_image: Callable) -> None:
    warmed(model, 1.0)
    image = he_image(100, SIDE, 2)
    found = model.probabilities(image)
    assert model.tumour(image) > 0.5
    assert found.shape == (1, 100, SIDE)
    assert found.dtype == np.float32
    assert found.any()
    np.testing.assert_array_equal(model.probabilities(image), found)
    proposal = model.propose(image)
    np.testing.assert_array_equal(proposal.likely[:100], found[0])
    assert proposal.warm[proposal.points[:, 1], proposal.points[:, 0]].all()
    likely, heat = model.heat(image)
    assert likely == proposal.tumour
    np.testing.assert_array_equal(heat.cells, proposal.heat.cells)


def test_the_recipe_of_the_card_counts(
    model: EpSamModel, he_image: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed(model, 1.0)
    image = he_image(SIDE, SIDE, 3)
    first = model.probabilities(image)
    swapped = np.ascontiguousarray(image[..., ::-1])
    with monkeypatch.context() as patch:
        patch.setattr(model, "recipe", replace(model.recipe, channel_order="bgr"))
        np.testing.assert_array_equal(model.probabilities(swapped), first)
    with monkeypatch.context() as patch:
        patch.setattr(model, "recipe", replace(model.recipe, points_frame="patch"))
        assert np.abs(model.probabilities(image) - first).max() > 1e-4
    points = np.array([[0, 0], [100, 40]])
    np.testing.assert_array_equal(Recipe(points_frame="patch").at(points, (512, 512)), points)
    np.testing.assert_array_equal(Recipe().at(points, (512, 512)), 2 * points)


def test_shipped_files_are_read_as_their_authors_wrote_them(registry: ModelRegistry) -> None:
    card = registry.get("ep-sam")
    assert Recipe.of(card) == Recipe("bgr", "patch", PROFILES["camelyon16"])
    for wrong in ({"channel_order": "gbr"}, {"cam_profile": "x"}, {"gate": 2}, {"percentile": "a"}):
        assert "repair or remove it" in refused(Recipe.of, replace(card, recipe=wrong))
    assert Recipe.of(replace(card, recipe={"percentile": 55})).profile.percentile == 55
    assert methods_of(card) == ()
    assert "No weights of it are published" in card.note


def test_windows_that_do_not_fit_are_refused(model: EpSamModel) -> None:
    for shape in ((5, 5), (5,), (5, 5, 4), (0, 5, 3)):
        assert "RGB uint8" in refused(model.probabilities, np.zeros(shape, np.uint8))
    large = np.zeros((SIDE + 1, 5, 3), np.uint8)
    assert "cut it into tiles" in refused(model.probabilities, large)


def test_wrong_files_are_refused_in_a_sentence(
    small: ModelRegistry, files: dict[str, Path], tmp_path: Path
) -> None:
    encoder, judge, decoder = files.values()

    def load(*given: Path) -> str:
        return refused(small.load, "ep-sam", "cpu", list(given))

    path = tmp_path / "x.pth"
    less = read_checkpoint(decoder)
    del less["mask_decoder.iou_token.weight"]
    torch.save(less, path)
    assert "decoder of EP-SAM (missing mask_decoder.iou_token.weight" in load(encoder, judge, path)
    less = read_checkpoint(judge)
    del less["layer4.2.bn1.weight"]
    torch.save(less, path)
    assert "classifier of EP-SAM (missing layer4.2.bn1.weight" in load(encoder, path, decoder)
    assert "both the part 'decoder'" in load(encoder, decoder, decoder)
    assert "'classifier' (ep_sam_classifier.pth) is missing" in load(encoder, decoder)
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    assert "no part of ep-sam" in load(encoder, judge, path)
    assert "does not fit SAM" in refused(fresh, {"fc.weight": torch.zeros(2, 2)})


def test_imported_files_become_a_model_of_their_own(
    registry: ModelRegistry, files: dict[str, Path]
) -> None:
    card = registry.import_files(list(files.values()), "lymph")
    assert (card.decoder, card.finds, card.recipe["channel_order"]) == ("ep-sam", "regions", "bgr")
    assert registry.is_ready("lymph")
    assert isinstance(registry.load("lymph", "cpu"), EpSamModel)


def test_what_was_trained_and_a_plain_sam_make_the_model(
    small: ModelRegistry, files: dict[str, Path], tmp_path: Path
) -> None:
    small.import_file(files["encoder"], "mini")
    own = {
        f"{part}/{name}": value
        for part in ("classifier", "decoder")
        for name, value in read_checkpoint(files[part]).items()
    }
    file = tmp_path / "own.safetensors"
    write_trained(file, own, {})
    origin = Trained("mini", base_hash(small, "mini"), "decoder", "d", "sha256:0", 9, "2026-01-01")
    keep_trained(small, replace(small.get("ep-sam"), name="mine", files=(), trained=origin), file)
    assert small.is_ready("mine")
    ours = small.load("mine", "cpu")
    theirs = small.load("ep-sam", "cpu", list(files.values()))
    assert isinstance(ours, EpSamModel)
    assert isinstance(theirs, EpSamModel)
    wanted = theirs.net.state_dict()
    for name, value in ours.net.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_detail_is_what_differs_from_the_lowest_frequencies() -> None:
    flat = torch.full((2, 3, 16, 24), 0.7)
    assert detail(flat).abs().max() < 1e-6
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    found = detail(x)
    assert found.shape == (2, 1, 16, 24)
    torch.testing.assert_close(detail(x + 0.25), found, atol=1e-6, rtol=0)
    torch.testing.assert_close(detail(x.flip(1)), found)  # red and blue exchanged


def test_a_heat_map_turns_back_and_is_stretched() -> None:
    raw = np.full((4, 6), -1.0, np.float32)
    raw[1, 2], raw[3, 5] = 3.0, 1.0
    heat = Heat.of([np.rot90(raw, turn) for turn in range(4)], (64, 96))
    assert heat.cells.tolist()[1][2] == 255
    assert heat.cells[3, 5] == 85
    assert (heat.cells > 0).sum() == 2
    weights = heat.weights()
    assert weights.shape == (64, 96)
    assert weights.max() <= 1
    cold = Heat.of([np.rot90(raw * 0 - 2, turn) for turn in range(4)], (64, 96))
    assert not cold.cells.any()
    for profile in PROFILES.values():
        assert not cold.mask(profile).any()


def test_a_higher_percentile_never_adds_to_the_mask() -> None:
    cells = np.random.default_rng(1).integers(0, 255, (32, 32)).astype(np.uint8)
    heat = Heat(np.sort(cells, axis=None).reshape(32, 32), (512, 512))
    for profile in PROFILES.values():
        masks = [heat.mask(replace(profile, percentile=p)) for p in (5, 40, 80)]
        assert masks[0].sum() > masks[1].sum() > masks[2].sum() > 0
        assert not (masks[1] & ~masks[0]).any()
        assert not (masks[2] & ~masks[1]).any()


masks = hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(masks, st.integers(1, 60), st.booleans())
def test_points_lie_inside_differ_and_are_as_many_as_there_can_be(
    mask: np.ndarray, most: int, weighed: bool
) -> None:
    weights = None
    usable = mask.copy()
    if weighed:
        weights = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
        usable &= weights > 0
    found = drawn(mask, np.random.default_rng(3), weights, most)
    assert len(found) == min(most, usable.sum())
    assert len(np.unique(found, axis=0)) == len(found)
    assert usable[found[:, 1], found[:, 0]].all()
    again = drawn(mask, np.random.default_rng(3), weights, most)
    np.testing.assert_array_equal(again, found)


@given(masks)
def test_agreement_is_the_share_that_is_warm(mask: np.ndarray) -> None:
    assert agreement(mask, mask) == mask.sum() / (mask.sum() + 1)
    assert agreement(~mask, mask) == 0


def test_a_patch_has_a_generator_of_its_own(he_image: Callable) -> None:
    one, other = he_image(16, 16, 1), he_image(16, 16, 2)
    draws = [generator_of(image).integers(1 << 60) for image in (one, one.copy(), other)]
    assert draws[0] == draws[1] != draws[2]
