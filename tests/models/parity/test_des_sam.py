"""All of folder des_sam: encoder, pyramid, detector, masks with and without token, losses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from napari_histosam.models.des_sam.assign import ANCHORS, PROPOSALS, assigned
from napari_histosam.models.des_sam.colours import crops
from napari_histosam.models.des_sam.decoder import looked, mask_logits
from napari_histosam.models.des_sam.detector import clipped, level_of, pooled
from napari_histosam.models.des_sam.finding import Settings, candidates, chosen
from napari_histosam.models.des_sam.frame import Square, normalised
from napari_histosam.models.des_sam.loss import (
    affinity,
    distillation_loss,
    level_set_loss,
    objectness_loss,
    pairwise_loss,
    region_loss,
)
from napari_histosam.models.des_sam.mask_learning import PUBLISHED, Lesson, mask_losses
from napari_histosam.models.des_sam.model import DesSamModel
from napari_histosam.models.protocols import Embedding, ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "des_sam"
DEEP, LOGIT, TOKEN, PX = 2e-4, 1e-4, 1e-5, 2e-2
MASK = 1e-3


@dataclass(frozen=True)
class Set:
    """What the README states of a case."""

    seed: int
    size: tuple[int, int]  # height, width
    image_seed: int
    settings: Settings


AS_PUBLISHED = Settings(most=120)
SETS = {
    "a": Set(11, (512, 512), 5, AS_PUBLISHED),
    "b": Set(97, (400, 600), 8, replace(AS_PUBLISHED, proposal_overlap=0.5, overlap=0.2)),
}
STRIDES = (31, 15, 7, 3)
CASES = pytest.mark.parametrize("case", SETS, ids=lambda case: f"{FOLDER}-{case}")


@dataclass
class Here:
    """A case: its arrays, its model, and what the network makes of its image."""

    it: Set
    arrays: dict[str, np.ndarray]
    model: DesSamModel
    image: np.ndarray
    embedding: torch.Tensor
    levels: list[torch.Tensor]

    def close(self, name: str, found: torch.Tensor, tolerance: float) -> None:
        wanted = self.arrays[name]
        assert tuple(found.shape) == wanted.shape, name
        off = np.abs(found.numpy().astype(np.float64) - wanted).max()
        assert off <= tolerance, f"{name} is off by {off}"

    def stats(self, name: str, *found: torch.Tensor, tolerance: float = DEEP) -> None:
        stats = [f(x) for x in found for f in (torch.mean, torch.std, lambda t: t.abs().max())]
        off = np.abs(np.array([float(s) for s in stats]) - self.arrays[name]).max()
        assert off <= tolerance, f"{name} is off by {off}"

    @property
    def boxes(self) -> torch.Tensor:
        return torch.from_numpy(self.arrays["rois"].astype(np.float32))


@pytest.fixture(scope="module")
def written(
    parity_dir: Path,
    det_init: Any,
    mmengine_file: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[int], Path]]:
    """Write a checkpoint as mmengine does, with objects of its own beside the weights."""
    files: dict[int, Path] = {}

    def write(seed: int) -> Path:
        if seed not in files:
            rows = json.loads((parity_dir / FOLDER / "keys.json").read_text())
            state = det_init.state_dict(rows, seed)
            named = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}
            path = tmp_path_factory.mktemp(FOLDER) / "epoch_50.pth"
            mmengine_file(path, named)
            files[seed] = path
        return files[seed]

    yield write
    for path in files.values():
        path.unlink()  # 470 MB


@pytest.fixture(scope="module")
def here(
    parity_dir: Path, det_init: Any, written: Callable, session_registry: ModelRegistry
) -> Callable[[str], Here]:
    known: dict[str, Here] = {}

    def of(case: str) -> Here:
        path = parity_dir / FOLDER / f"golden_{case}.npz"
        if not path.is_file():
            pytest.skip(f"the arrays of case {case.upper()} of {FOLDER} are not in {parity_dir}")
        if case not in known:
            it = SETS[case]
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            model = session_registry.load("des-sam", "cpu", [written(it.seed)])
            assert isinstance(model, DesSamModel)
            model.settings = it.settings
            image = det_init.image(*it.size, it.image_seed)
            found = model.encode([image]).arrays["embedding"]
            embedding = torch.from_numpy(found)[None]
            with torch.inference_mode():
                levels = model.net.neck(embedding)
            known[case] = Here(it, arrays, model, image, embedding, levels)
        return known[case]

    return of


@CASES
def test_input_and_encoder(case: str, here: Callable) -> None:
    one = here(case)
    square = Square(one.it.size[::-1])
    x = normalised(square.pixels(one.image))
    one.close("input_sample", x[0, :, ::32, ::32], 1e-6)
    one.stats("input_stats", x, tolerance=1e-5)
    one.close("embed_sample", one.embedding[0, ::16, ::5, ::5], DEEP)
    one.stats("embed_stats", one.embedding)


@CASES
@torch.inference_mode()
def test_pyramid_and_proposals(case: str, here: Callable) -> None:
    one = here(case)
    net = one.model.net
    for level, (x, step) in enumerate(zip(one.levels, STRIDES, strict=True), 2):
        one.close(f"p{level}_sample", x[0, ::32, ::step, ::step], DEEP)
        one.stats(f"p{level}_stats", x)
    logits, shifts = net.rpn.head(one.levels)
    for level, (cls, reg, step) in enumerate(zip(logits, shifts, STRIDES, strict=True), 2):
        one.close(f"rpn_cls_p{level}", cls[0, :, ::step, ::step], DEEP)
        one.close(f"rpn_reg_p{level}", reg[0, :, ::step, ::step], DEEP)
        one.stats(f"rpn_stats_p{level}", cls, reg)
    base = torch.stack(net.rpn.anchor_generator.cell_anchors)
    one.close("base_anchors", base, 1e-4)
    found = net.rpn.objectness(one.levels)
    finer = found.anchors[found.counts[0] :][: found.counts[1]]
    rows = torch.tensor([0, 1, 2, 383, 384, found.counts[1] - 1])
    one.close("anchors_p3_rows_0_1_2_383_384_last", finer[rows], 1e-4)
    boxes, scores = net.rpn.proposals(found, one.it.settings.proposal_overlap)
    assert len(boxes) == int(one.arrays["proposals_count"])
    matched(one, "proposals_top100_boxes", "proposals_top100_scores", boxes, scores)


def matched(
    one: Here, boxes_name: str, scores_name: str, boxes: torch.Tensor, scores: torch.Tensor
) -> None:
    """Every stored box but 5 % has a partner here, of the same score."""
    stored = torch.from_numpy(one.arrays[boxes_name].astype(np.float32))
    known = torch.from_numpy(one.arrays[scores_name].astype(np.float32))
    overlap, partner = box_iou(stored, boxes).max(1)
    good = (overlap > 0.99) & ((scores[partner] - known).abs() <= 1e-4)
    assert good.float().mean() >= 0.95, f"{boxes_name}: {int(good.sum())} of {len(good)}"


@CASES
@torch.inference_mode()
def test_regions_and_detections(case: str, here: Callable) -> None:
    one = here(case)
    net, rois = one.model.net, one.boxes
    np.testing.assert_array_equal(level_of(rois).numpy(), one.arrays["roi_level"])
    one.close("roi_feat_sample", pooled(one.levels, rois)[:, ::16], DEEP)
    logits, shifts = net.box_head(one.levels, rois)
    one.close("bbox_cls_logits", logits, LOGIT)
    one.close("bbox_deltas", shifts, LOGIT)
    one.close("bbox_decoded", clipped(net.box_head.coder.decoded(shifts, rois)), PX)
    one.close("bbox_prob_nucleus", logits.softmax(1)[:, 0], LOGIT)
    all_of_them = candidates(net, one.embedding, one.it.settings)
    for name, score in (("det", one.it.settings.score), ("det0", 0.0)):
        found = chosen(*all_of_them, replace(one.it.settings, score=score))
        assert abs(len(found.boxes) - len(one.arrays[f"{name}_scores"])) <= 1
        matched(one, f"{name}_boxes_1024", f"{name}_scores", found.boxes, found.scores)


@CASES
@torch.inference_mode()
def test_masks_with_and_without_token(case: str, here: Callable) -> None:
    one = here(case)
    net, rois = one.model.net, one.boxes
    sparse, dense = net.prompt_encoder(None, rois, None)
    one.close("sparse_embeddings", sparse, TOKEN)
    positions = net.prompt_encoder.get_dense_pe()
    one.close("dense_pe_sample", positions[0, ::16, ::8, ::8], TOKEN)
    token = net.learned_prompt.weight
    for name, decoder, learned in (("student", net.student, token), ("teacher", net.teacher, None)):
        seen = looked(decoder, one.embedding, positions, sparse, dense, learned)
        one.close(f"{name}_tokens", seen.tokens[..., ::4], MASK)
        low = mask_logits(decoder, seen)
        one.close(f"{name}_lowres_sample", low[:, ::7, ::7], MASK)
        for row, stats in zip(low, one.arrays[f"{name}_lowres_stats"], strict=True):
            figures = [float(row.mean()), float(row.std()), float(row.abs().max())]
            np.testing.assert_allclose(figures, stats, atol=MASK)
    without = net.box_masks(one.embedding, rois, token=False)
    one.close("student_without_learned_token_lowres_sample", without[:, ::7, ::7], MASK)
    square = Square(one.it.size[::-1])
    full = square.window_logits(net.box_masks(one.embedding, rois))
    one.close("student_fullres_sample", full[:, ::13, ::13], MASK)
    own = torch.from_numpy(square.window_boxes(rois.numpy()))
    one.close("final_boxes_orig", own, 1e-3)
    masks = full > one.it.settings.mask_logit
    areas = masks.flatten(1).sum(1).numpy()
    np.testing.assert_allclose(areas, one.arrays["final_mask_area"], rtol=2e-3, atol=1)
    zero = (full > 0).flatten(1).sum(1).numpy()
    np.testing.assert_allclose(zero, one.arrays["final_mask_area_thr0"], rtol=2e-3, atol=1)
    packed = np.unpackbits(one.arrays["final_masks_packed_0_4"], axis=1)
    bits = masks[:4].flatten(1).numpy()
    assert (packed[:, : bits.shape[1]] != bits).mean(1).max() <= 2e-3


@CASES
def test_drawn_boxes_get_what_the_detectors_boxes_get(case: str, here: Callable) -> None:
    """The public way in: window px, corner based; the token only for boxes."""
    one = here(case)
    size = one.it.size[::-1]
    embedding = Embedding({"embedding": one.embedding[0].numpy()}, size)
    boxes = one.arrays["final_boxes_orig"][:3].astype(np.float64)
    answers = one.model.decode(embedding, [ObjectPrompts(box=box) for box in boxes])
    for number, answer in enumerate(answers):
        area = int(one.arrays["final_mask_area"][number])
        assert abs(int(answer.masks.sum()) - area) <= max(2e-3 * area, 1)
        one_of = answer.logits[:, ::7, ::7]
        wanted = one.arrays["student_lowres_sample"][number]
        assert np.abs(one_of[0] - wanted).max() <= MASK


@pytest.fixture(scope="module")
def losses(parity_dir: Path) -> dict[str, Any]:
    path = parity_dir / FOLDER / "loss_golden.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


def near(found: float | torch.Tensor, wanted: float, tolerance: float = 1e-5) -> None:
    assert float(found) == pytest.approx(wanted, rel=tolerance, abs=1e-7)


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_distillation_des_sam(losses: dict[str, Any]) -> None:
    rng, known = np.random.default_rng(1), losses["distill"]
    logits = torch.from_numpy(rng.standard_normal((3, 16, 16)).astype(np.float32) * 3)
    truth = torch.from_numpy((rng.standard_normal((3, 16, 16)) > 0.5).astype(np.float32))
    entropy, dice = distillation_loss(logits, truth)
    near(entropy, known["mask_bce_loss_as_logged"])
    near(dice, known["mask_dice_loss_as_logged"])


def test_colours_des_sam(losses: dict[str, Any]) -> None:
    lab = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 3, 12, 12)) * 4).float()
    valid = torch.ones(2, 1, 12, 12)
    valid[:, :, -3:] = 0
    alike, known = affinity(lab, valid), losses["similarity"]
    assert list(alike.shape) == known["shape"]
    near(alike.sum(), known["sum"])
    for name, value in known.items():
        if name.startswith("value_"):
            near(alike[tuple(map(int, name.split("_")[1:]))], value)
    chance = torch.from_numpy(np.random.default_rng(3).random((2, 12, 12)).astype(np.float32))
    near(
        pairwise_loss(chance, alike, PUBLISHED.dilation) / alike.sum().clamp(min=1),
        losses["local_pairwise"]["loss"],
    )
    rgb = np.random.default_rng(4).random((2, 3, 12, 12)) * 255
    even = level_set_loss(chance, torch.from_numpy(rgb.astype(np.float32)))
    known = losses["global_pairwise"]
    near(even.mean(), known["loss_weighted_0_001"])
    both = np.add(known["energy_in_per_instance"], known["energy_out_per_instance"])
    np.testing.assert_allclose(even.numpy(), 0.001 * both / 144, rtol=1e-5)


def test_detector_losses_des_sam(losses: dict[str, Any], here: Callable) -> None:
    coder = here("a").model.net.box_head.coder
    rng, known = np.random.default_rng(5), losses["bbox_head"]
    xy = rng.uniform(0, 800, (6, 2)).astype(np.float32)
    wh = rng.uniform(20, 150, (6, 2)).astype(np.float32)
    rois = torch.from_numpy(np.concatenate([xy, xy + wh], 1))
    logits, shifts = torch.from_numpy(drawn(rng, 6, 2)), torch.from_numpy(drawn(rng, 6, 4))
    truth = rois[:3] + torch.from_numpy(rng.uniform(-8, 8, (3, 4)).astype(np.float32))
    decoded = coder.decoded(shifts[:3], rois[:3])
    np.testing.assert_allclose(decoded[0].numpy(), known["decoded_row0"], rtol=1e-5)
    encoded = coder.encoded(truth, rois[:3])
    np.testing.assert_allclose(encoded[0].numpy(), known["encoded_target_row0"], rtol=2e-5)
    kinds = torch.tensor([0, 0, 0, 1, 1, 1])
    sorting, place = region_loss(logits, kinds, decoded, truth)
    near(sorting, known["loss_cls"])
    near(place, known["loss_bbox_patchseg_weight_1"])
    near(
        region_loss(logits, kinds, decoded, truth, 0.1)[1], known["loss_bbox_clusterseg_weight_0_1"]
    )
    rng, known = np.random.default_rng(6), losses["rpn"]
    scores, moved, wanted = (torch.from_numpy(drawn(rng, 8, n)) for n in (1, 4, 4))
    sorting, place = objectness_loss(scores[:, 0], moved[:3], wanted[:3], 8)
    near(sorting, known["loss_rpn_cls"])
    near(place, known["loss_rpn_bbox"])


@pytest.mark.parametrize(("name", "limits"), [("rpn", ANCHORS), ("rcnn", PROPOSALS)])
def test_assigners_des_sam(losses: dict[str, Any], name: str, limits: Any) -> None:
    truth = np.array(
        [[100, 120, 150, 180], [500, 100, 640, 260], [820, 300, 1000, 480], [10, 10, 22, 24]],
        np.float32,
    )
    moved = np.random.default_rng(7).uniform(-25, 25, (24, 4)).astype(np.float32)
    boxes = (np.repeat(truth, 6, axis=0) + moved).astype(np.float32)
    found = assigned(torch.from_numpy(boxes), torch.from_numpy(truth), limits)
    key = "gt_inds_plus1_0_is_negative_minus1_is_ignored"
    assert found.tolist() == losses[f"assigner_{name}"][key]


TRUTH = torch.tensor([[100, 120, 150, 180], [500, 100, 640, 260], [820, 860, 1000, 1020.0]])


@pytest.fixture(scope="module")
def lesson(here: Callable) -> Lesson:
    """Targets as published, on the pixels that the authors get back from normalised ones."""
    one = here("a")
    square = Square(one.it.size[::-1])
    mean, std = (
        torch.tensor(v).view(-1, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )
    rgb = normalised(square.pixels(one.image))[0] * std + mean
    with torch.inference_mode():
        masks = one.model.net.taught_masks(one.embedding, TRUTH) > 0
    return Lesson(
        TRUTH.clone(),
        masks.clone(),
        torch.zeros(3, dtype=torch.bool),
        crops(rgb, TRUTH, square.inner, PUBLISHED.invalid_rows),
    )


def test_targets_of_colour_des_sam(losses: dict[str, Any], lesson: Lesson) -> None:
    known = losses["targets"]
    alike, rgb = lesson.crops.alike, lesson.crops.rgb
    assert list(alike.shape) == known["sim_shape"]
    assert list(rgb.shape) == known["crop_shape"]
    np.testing.assert_allclose(alike.flatten(1).sum(1), known["sim_sum_per_box"], rtol=1e-5)
    np.testing.assert_allclose(
        alike[0, 0, 36, [0, 8, 16]], known["sim_box0_n0_row36_cols_0_8_16"], rtol=1e-4
    )
    np.testing.assert_allclose(rgb.flatten(1).mean(1), known["crop_mean_per_box"], rtol=1e-5)
    np.testing.assert_allclose(rgb[1, :, 36, 36], known["crop_box1_rgb_at_36_36"], rtol=1e-5)


def test_mask_branch_and_its_gradient_des_sam(
    losses: dict[str, Any], here: Callable, lesson: Lesson
) -> None:
    one, known = here("a"), losses["mask_branch_end_to_end"]
    proposals = [[96, 118, 156, 184], [510, 90, 650, 270], [830, 850, 1010, 1010]]
    boxes = torch.cat([torch.tensor(proposals).float(), TRUTH])
    token = one.model.net.learned_prompt.weight
    token.requires_grad_(True)
    parts: dict[str, float] = {}
    grads = {name: torch.zeros(1, 256) for name in known["losses"]}
    steps = mask_losses(
        one.model.net,
        one.embedding.clone(),
        boxes,
        torch.tensor([0, 1, 2] * 2),
        lesson,
        PUBLISHED,
        4,
    )
    for step in steps:
        for name, value in step.items():
            parts[name] = parts.get(name, 0.0) + float(value.detach())
            (found,) = torch.autograd.grad(value, token, retain_graph=True)
            grads[name] += found
    token.requires_grad_(False)
    for name, value in known["losses"].items():
        near(parts[name], value, 1e-3)
        near(grads[name].norm(), known["grad_norm_per_loss"][name], 1e-2)
    near(sum(parts.values()), known["total"], 1e-3)
    whole = sum(grads.values())
    near(whole.norm(), known["grad_learned_prompt_norm"], 1e-2)
    np.testing.assert_allclose(
        whole[0, :8], known["grad_learned_prompt_first8"], rtol=1e-2, atol=1e-5
    )


def discs(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    out = np.zeros((96, 96), int)
    for number in range(count):
        cy, cx = rng.uniform(8, 88, 2)
        out[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(5, 11) ** 2] = number + 1
    return out


def test_metrics_des_sam(losses: dict[str, Any]) -> None:
    """Upstream labels both maps anew by connected components and hands some in in turned order."""
    from skimage.measure import label

    instances = pytest.importorskip("napari_histosam.train.evaluation.instances")
    truth = discs(21, 9)
    found = np.roll(truth, (2, -1), (0, 1))
    found[found == 3] = 0
    found[80:92, 2:12] = 30
    truth, found = label(truth, connectivity=1), label(found, connectivity=1)
    straight, turned = instances.overlaps(truth, found), instances.overlaps(found, truth)
    known = losses["metrics"]["values"]
    near(instances.aji(straight), known["aji"])
    for value, name in zip(instances.panoptic(turned), ("dq", "sq", "pq"), strict=True):
        near(value, known[name])
    near(instances.dice(turned), known["F1"])
    near(instances.object_dice(turned), known["dice"])
