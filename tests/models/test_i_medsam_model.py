"""I-MedSAM: any resolution, only the box, in pieces; and what it does with odd input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.i_medsam.encoder import spectrum
from napari_histosam.models.i_medsam.field import energy, sampled
from napari_histosam.models.i_medsam.frame import in_square, region_of
from napari_histosam.models.i_medsam.load import adapted_state, save_adapted
from napari_histosam.models.i_medsam.model import SAMPLED, IMedSamModel
from napari_histosam.models.i_medsam.points import Region, Sampler
from napari_histosam.models.i_medsam.render import draw
from napari_histosam.models.parts import read_part
from napari_histosam.models.prompts import check_prompts
from napari_histosam.models.protocols import Embedding, ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

SIDE = 384
EQUAL = 1e-5
BOX = ObjectPrompts(box=np.array([150.0, 200, 185, 222]))


@pytest.fixture(scope="module")
def model(
    session_registry: ModelRegistry, i_medsam_files: list[Path], short_vit: Callable
) -> IMedSamModel:
    with pytest.MonkeyPatch.context() as patch:
        short_vit(patch)
        return session_registry.load("i-medsam", "cpu", i_medsam_files)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def embedding(model: IMedSamModel, he_image: Callable) -> Embedding:
    return model.encode([he_image(SIDE, SIDE, 4)])


@pytest.fixture(scope="module")
def upscaled(model: IMedSamModel) -> torch.Tensor:
    return torch.randn(32, 96, 96, generator=torch.Generator().manual_seed(1))


def test_only_the_box_equals_the_same_part_of_the_whole(
    model: IMedSamModel, upscaled: torch.Tensor
) -> None:
    """Both networks, at every point; and merged, where the same points are refined."""
    grid, part = (96, 128), Region(40, 17, 77, 60)
    field = model.net.mask_decoder.seg_field
    inside = np.s_[part.top : part.bottom, part.left : part.right]
    with torch.inference_mode():
        whole = model.net.sampler(upscaled, grid)
        small = model.net.sampler(upscaled, grid, part)
        for refine in ("none", "all"):
            full, box = (draw(field, s, refine=refine) for s in (whole, small))
            assert (full.logits[inside] - box.logits).abs().max() <= EQUAL
            assert (full.energy[inside] - box.energy).abs().max() <= EQUAL
        box = draw(field, small)
        rows, columns = torch.nonzero(box.logits != box.coarse, as_tuple=True)
        assert len(rows) == int(0.125 * part.count)
        chosen = (rows + part.top) * grid[1] + columns + part.left
        full = draw(field, whole, chosen=chosen)
        assert (full.logits[inside] - box.logits).abs().max() <= EQUAL
        inside_only = full.logits.clone()
        inside_only[inside] = full.coarse[inside]
        assert torch.equal(inside_only, full.coarse)


@given(
    chunk=st.integers(1, 3000),
    left=st.integers(0, 30),
    top=st.integers(0, 30),
    width=st.integers(1, 30),
    height=st.integers(1, 30),
)
def test_pieces_make_the_whole(
    model: IMedSamModel,
    upscaled: torch.Tensor,
    chunk: int,
    left: int,
    top: int,
    width: int,
    height: int,
) -> None:
    part = Region(left, top, left + width, top + height)
    field = model.net.mask_decoder.seg_field
    with torch.inference_mode():
        sampler = model.net.sampler(upscaled, (60, 60), part)
        one, many = draw(field, sampler), draw(field, sampler, chunk=chunk)
        assert (one.coarse - many.coarse).abs().max() <= EQUAL
        # A tie within rounding may fall to another point; each is one network's or the other's.
        fine = draw(field, sampler, refine="all").logits
        near = torch.minimum((many.logits - one.coarse).abs(), (many.logits - fine).abs())
        assert near.max() <= EQUAL


@pytest.mark.parametrize("grid", [(128, 128), (384, 384), (896, 896), (50, 700), (7, 3)])
def test_maps_are_sampled_as_if_they_had_been_resized(grid: tuple[int, int]) -> None:
    maps = torch.randn(5, 24, 24, generator=torch.Generator().manual_seed(2))
    wanted = functional.interpolate(maps[None], grid, mode="bilinear", align_corners=False)[0]
    part = Region(grid[1] // 3, grid[0] // 4, grid[1], grid[0])
    found = Sampler((maps,), grid, part).rows(0, part.size[0])[:, :5]
    cut = wanted[:, part.top : part.bottom, part.left : part.right].flatten(1).T
    torch.testing.assert_close(found, cut, atol=2e-5, rtol=0)


def test_one_model_draws_any_resolution(model: IMedSamModel, embedding: Embedding) -> None:
    areas = []
    for side in (128, 384, 896):
        (found,) = model.render(embedding, [BOX], grid=(side, side), refine="none")
        assert found.grid == (side, side)
        assert found.logits.shape == found.region.size
        assert np.isfinite(found.logits).all()
        areas.append((found.logits > 0).sum() / side**2)
    assert 0 < min(areas)
    assert np.ptp(areas) < 0.1 * max(areas)


def test_a_finer_drawing_covers_the_same_part(model: IMedSamModel, embedding: Embedding) -> None:
    (plain,) = model.render(embedding, [BOX])
    (fine,) = model.render(embedding, [BOX], finer=3)
    assert plain.grid == (SIDE, SIDE)
    assert fine.grid == (3 * SIDE, 3 * SIDE)
    assert fine.logits.shape == tuple(3 * side for side in plain.logits.shape)
    assert fine.region.left == 3 * plain.region.left
    # Only the neighbourhood of the box is drawn, and what is there is that part of the whole.
    assert plain.region.count < 0.03 * SIDE * SIDE
    small = (96, 96)
    (whole,) = model.render(embedding, [BOX], grid=small, refine="none", whole=True)
    (part,) = model.render(embedding, [BOX], grid=small, refine="none")
    region = part.region
    inside = whole.logits[region.top : region.bottom, region.left : region.right]
    assert np.abs(inside - part.logits).max() <= EQUAL


def test_a_black_window_has_finite_answers(model: IMedSamModel) -> None:
    assert not spectrum(torch.zeros(1, 3, 32, 32)).any()
    embedding = model.encode([np.zeros((SIDE, SIDE, 3), np.uint8)])
    assert np.isfinite(embedding.arrays["embedding"]).all()
    (answer,) = model.decode(embedding, [BOX])
    assert np.isfinite(answer.scores).all()


def test_the_spectrum_is_of_the_red_channel_of_each_image() -> None:
    x = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    y = x.clone()
    y[:, 1:] = 0
    assert torch.equal(spectrum(x), spectrum(y))
    found = spectrum(x)
    assert torch.equal(found[1:], spectrum(x[1:]))
    assert found.amin() == 0
    assert (found[:, :, 24, 24] == 1).all()  # the mean, in the centre


def test_boxes_become_inclusive_indices_and_masks_boxes() -> None:
    def index_of(prompts: ObjectPrompts, size: tuple[int, int]) -> np.ndarray:
        (checked,) = check_prompts([prompts], size)
        found = in_square(checked, size, SIDE, "m").box
        assert found is not None
        return found - 0.5

    box = ObjectPrompts(box=np.array([96.0, 120, 251, 301]))
    np.testing.assert_allclose(index_of(box, (SIDE, SIDE)), [96, 120, 250, 300])
    half = ObjectPrompts(box=np.array([43.0, 39, 80, 82]))
    np.testing.assert_allclose(index_of(half, (128, 128)), [129, 117, 239, 245])
    mask = np.zeros((SIDE, SIDE), bool)
    mask[120:301, 96:251] = True
    np.testing.assert_allclose(
        index_of(ObjectPrompts(mask=mask), (SIDE, SIDE)), [96, 120, 250, 300]
    )
    with pytest.raises(InputError, match="drag one"):
        in_square(ObjectPrompts(mask=np.zeros((9, 9), bool)), (9, 9), SIDE, "m")
    logits = np.zeros((256, 256), np.float32)
    with pytest.raises(InputError, match="drag one"):
        in_square(ObjectPrompts(logits=logits), (9, 9), SIDE, "m")


@given(st.floats(-100, 500), st.floats(-100, 500), st.floats(0, 300), st.floats(0, 300))
def test_the_region_lies_in_the_window_and_holds_the_box(
    left: float, top: float, width: float, height: float
) -> None:
    box = np.array([left, top, left + width, top + height])
    found = region_of(ObjectPrompts(box=box), (SIDE, 200))
    assert 0 <= found.left < found.right <= SIDE
    assert 0 <= found.top < found.bottom <= 200
    assert found.left <= max(left, 0)
    assert found.right >= min(left + width, SIDE)
    assert found.bottom >= min(top + height, 200)


def test_a_checkpoint_goes_round_bit_for_bit(
    model: IMedSamModel, i_medsam_files: list[Path], tmp_path: Path
) -> None:
    """The published file holds numpy numbers and parameters; neither needs code to be run."""
    state = adapted_state(model.net)
    before = read_checkpoint(i_medsam_files[1])
    assert set(state) == set(before)
    save_adapted(state, tmp_path / "again.pth", 3)
    after = read_checkpoint(tmp_path / "again.pth")
    for name, value in before.items():
        assert torch.equal(after[name], value.detach()), name


def test_wrong_files_are_refused_in_a_sentence(
    registry: ModelRegistry,
    i_medsam_files: list[Path],
    wsi_files: list[Path],
    short_vit: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short_vit(monkeypatch)
    base, own = i_medsam_files

    def load(*files: Path) -> str:
        with pytest.raises(InputError) as caught:
            registry.load("i-medsam", "cpu", list(files))
        text = str(caught.value)
        assert "\n" not in text
        return text

    assert "no part of i-medsam" in load(base, wsi_files[1])
    assert "MobileSAM" in load(wsi_files[0], own)
    assert "both the part 'adapted'" in load(own, own)
    assert "'encoder' (sam_vit_b_01ec64.pth) is missing" in load(own)
    whole = own.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[:-5000])
    assert "cut off" in load(base, cut)
    state = {k: v.detach() for k, v in read_checkpoint(own).items()}
    part = tmp_path / "part.pth"
    for change, told in (
        ({"w_b_001": None}, "missing w_b_001"),
        ({"w_g_001": torch.zeros(2, 768)}, "w_g_001 2x768 in place of 1x768"),
        ({"w_a_004": torch.zeros(4, 768)}, "unexpected w_a_004"),
    ):
        changed = {**state, **change}
        torch.save({"model": {k: v for k, v in changed.items() if v is not None}}, part)
        assert told in load(base, part)
        with pytest.raises(InputError, match="does not fit I-MedSAM"):
            registry.import_file(part)
    torch.save({"model": state, "metrics": [Harmful()]}, part)
    assert "could run code" in load(base, part)
    assert read_part("i-medsam", own).name == "adapted"
    with pytest.raises(InputError, match="no part of wsi-sam"):
        registry.load("wsi-sam", "cpu", [*wsi_files[:2], own])


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_the_checkpoint_is_imported_under_whatever_name_it_has(
    registry: ModelRegistry,
    i_medsam_files: list[Path],
    short_vit: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short_vit(monkeypatch)
    assert registry.import_file(i_medsam_files[1]).name == "i-medsam"
    assert (registry.folder / "i_medsam.pth").read_bytes() == i_medsam_files[1].read_bytes()
    assert not registry.is_ready("i-medsam")
    card = registry.import_files(i_medsam_files, "my glands")
    assert card.name == "my-glands"
    assert registry.is_ready("my-glands")
    assert registry.load("my-glands", "cpu").card.window_px == SIDE


@pytest.mark.parametrize(("rank", "projections", "classes"), [(6, 2, 1), (4, 3, 1), (4, 2, 3)])
def test_rank_projections_and_classes_are_told_from_the_file(
    rank: int,
    projections: int,
    classes: int,
    registry: ModelRegistry,
    i_medsam_files: list[Path],
    make_weights: Callable,
    short_vit: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_histosam.models.i_medsam.network import IMedSam, published_names

    short_vit(monkeypatch)
    with torch.device("meta"):
        net = IMedSam(SIDE, rank, projections, classes)
    own = net.state_dict()
    names = published_names(net)
    state = make_weights({name: tuple(own[ours].shape) for name, ours in names.items()}, 3)
    path = tmp_path / "own.pth"
    torch.save(state, path)
    said: list[str] = []
    model = registry.load("i-medsam", "cpu", [i_medsam_files[0], path], said.append)
    assert set(adapted_state(model.net)) == set(state)  # type: ignore[attr-defined]
    assert any("3 classes" in sentence for sentence in said) == (classes == 3)


@pytest.mark.parametrize("passes", [2, 3, 8])
def test_sampled_uncertainty_is_the_expected_one_on_average(passes: int) -> None:
    """Its error falls with the root of the number of draws; one draw is the variance of passes."""
    generator = torch.Generator().manual_seed(0)
    out = torch.randn(40, 257, generator=generator)
    wanted, errors = energy(out), []
    for draws in (8, 800):
        mean = torch.stack([sampled(out, generator, passes) for _ in range(draws)]).mean(0)
        errors.append(float(((mean - wanted) / wanted).square().mean().sqrt()))
    assert errors[1] < 0.006
    assert errors[1] < errors[0] / 5
    ours, plain = (torch.Generator().manual_seed(7) for _ in range(2))
    keep = torch.rand(40, passes, 257, generator=plain) >= 0.5
    by_hand = (out[:, None] * keep / 0.5).var(1).mean(1)
    torch.testing.assert_close(sampled(out, ours, passes), by_hand)


def test_many_sampled_passes_refine_the_points_of_the_exact_form(
    model: IMedSamModel, upscaled: torch.Tensor
) -> None:
    field = model.net.mask_decoder.seg_field
    part = Region(40, 17, 77, 60)
    with torch.inference_mode():
        sampler = model.net.sampler(upscaled, (96, 128), part)
        exact = draw(field, sampler)
        few, many = (draw(field, sampler, refine="mc", passes=n, chunk=99) for n in (2, 400))
        pieces = draw(field, sampler, refine="mc")
        other = draw(field, sampler, refine="mc", seed=1)
        everywhere = draw(field, sampler, refine="all").logits
    far = [(one.energy - exact.energy).abs().mean() for one in (few, many)]
    assert far[1] < far[0] / 10
    picked = [one.logits != one.coarse for one in (exact, few, many, other)]
    assert {int(one.sum()) for one in picked} == {int(0.125 * part.count)}
    agree = [float((picked[0] & one).sum() / picked[0].sum()) for one in picked[1:3]]
    assert agree[1] > max(agree[0], 0.9)
    assert not torch.equal(picked[1], picked[3])
    # No pass with dropout gets into the answer, and pieces draw the same passes.
    for one, chosen in zip((few, many), picked[1:3], strict=True):
        assert (one.coarse - exact.coarse).abs().max() <= EQUAL
        assert (one.logits - everywhere)[chosen].abs().max() <= EQUAL
    assert (pieces.energy - few.energy).abs().max() <= EQUAL


def test_a_card_chooses_the_sampled_uncertainty(model: IMedSamModel, embedding: Embedding) -> None:
    card = replace(model.card, variant=SAMPLED)
    other = IMedSamModel(card, model.net, model.weights_hash)
    (plain,), (drawn,) = model.render(embedding, [BOX]), other.render(embedding, [BOX])
    (asked,) = model.render(embedding, [BOX], refine="mc")
    np.testing.assert_array_equal(drawn.logits, asked.logits)
    assert (drawn.logits != plain.logits).any()
    (again,) = other.decode(embedding, [BOX])
    assert again.masks[0].sum() == (drawn.logits > 0).sum()
