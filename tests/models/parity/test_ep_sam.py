"""All of folder ep_sam: classifier, heat map, points, SAM's answers, losses, a step of training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.catalog import write_card
from napari_histosam.models.ep_sam.cam import PROFILES, TURNS, Heat, turned
from napari_histosam.models.ep_sam.classifier import AttentionDropout, detail, hidden, weighed
from napari_histosam.models.ep_sam.frame import Recipe, classifier_input
from napari_histosam.models.ep_sam.loss import dice_loss, iou_loss, mask_loss, patch_loss
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.ep_sam.network import over_patch
from napari_histosam.models.ep_sam.points import agreement, drawn
from napari_histosam.models.sam.build import PIXEL_MEAN, PIXEL_STD
from napari_histosam.models.sam.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "ep_sam"
# (weights' seed, height, width, image's seed)
SETS = {"a": (11, 512, 512, 3), "b": (97, 400, 600, 7)}
CASES = pytest.mark.parametrize("case", SETS, ids=lambda case: f"{FOLDER}-{case}")
LABELS = ("camelyon16", "camelyon17")
# Prompts of case B: in px of the patch, but for the last, which SAM's square counts.
_X = (60, 120, 180, 240, 300, 330, 360, 410, 450, 500, 540, 590)
_Y = (40, 350, 90, 210, 20, 330, 150, 260, 60, 380, 190, 300)
PLACES = list(zip(_X, _Y, strict=True))
MIXED = ([(410, 356), (512, 630), (800, 120)], [1, 1, 0], (300, 200, 760, 650))
STRIDES = {
    "clf_hf": np.s_[::4, ::4],
    "clf_conv1": np.s_[::16, ::8, ::8],
    "clf_layer1": np.s_[::64, ::8, ::8],
    "clf_layer2": np.s_[::64, ::4, ::4],
    "clf_layer3": np.s_[::128, ::2, ::2],
    "clf_layer4_0": np.s_[::256, ::2, ::2],
    "clf_layer4": np.s_[::256, ::2, ::2],
    "cam_norm": np.s_[::4, ::4],
    "sam_resized": np.s_[:, ::16, ::16],
    **dict.fromkeys(("sam_block0", "sam_block2", "sam_block11"), np.s_[::16, ::16, ::16]),
    "sam_embedding": np.s_[::16, ::4, ::4],
    "low_res": np.s_[::2, ::2],
    "prob": np.s_[::4, ::4],
}
BOUNDS = {
    "clf_hf": 1e-5,
    "clf": 1e-4,
    "cam_raw": 1e-4,
    "cam_avg": 1.0,
    "cam_norm": 0.02,
    "sam_resized": 1.0,
    "sam": 1e-3,
    "sparse": 1e-4,
    "tokens": 2e-3,
    "low_res": 2e-3,
    "prob": 1e-3,
    "iou": 1e-3,
}
SETS_OF_PROMPTS = ("asis", "scaled", "mixed", "fallback")


@pytest.fixture(scope="module")
def arrays(parity_dir: Path) -> Callable[[str], dict[str, np.ndarray]]:
    def of(case: str) -> dict[str, np.ndarray]:
        path = parity_dir / FOLDER / f"golden_{case}.npz"
        if not path.is_file():
            pytest.skip(f"the arrays of case {case.upper()} of {FOLDER} are not in {parity_dir}")
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}

    return of


@pytest.fixture(scope="module")
def load(
    parity_dir: Path,
    det_init: Any,
    checkpoint: Callable,
    session_registry: ModelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], EpSamModel]]:
    """Load a case through the registry from its three files; the base's own decoder is empty."""
    models: dict[str, EpSamModel] = {}
    written: list[Path] = []
    recipe = {"channel_order": "rgb", "points_frame": "patch", "cam_profile": "camelyon17"}
    card = replace(session_registry.get("ep-sam"), name="ep-sam-parity", recipe=recipe)
    write_card(card, session_registry.folder / f"{card.name}.json")

    def of(case: str) -> EpSamModel:
        if case not in models:
            seed = SETS[case][0]
            base = tmp_path_factory.mktemp(FOLDER) / "sam_vit_b.pth"
            rows = json.loads((parity_dir / FOLDER / "keys.json").read_text())["sam"]
            own = [row for row in rows if row[0].startswith("mask_decoder.")]
            made = det_init.state_dict([row for row in rows if row not in own], seed)
            state = {name: torch.from_numpy(value) for name, value in made.items()}
            torch.save(state | {name: torch.zeros(shape) for name, shape, _ in own}, base)
            name = "camelyon17_resnet_adl.pth"
            judge = checkpoint(FOLDER, "classifier", seed, name, prefixed=False)
            name = "camelyon17_decoder_iter3.pth"
            decoder = checkpoint(FOLDER, "decoder_file", seed, name, prefixed=False)
            written.extend((base, judge))
            loaded = session_registry.load("ep-sam-parity", "cpu", [decoder, base, judge])
            assert isinstance(loaded, EpSamModel)
            models[case] = loaded
        return models[case]

    yield of
    for path in written:
        path.unlink(missing_ok=True)  # 470 MB
    (session_registry.folder / "ep-sam-parity.json").unlink()


@dataclass
class Seen:
    """What a case's network makes of its image, by the names of the reference arrays."""

    model: EpSamModel
    patch: np.ndarray
    found: dict[str, np.ndarray]
    embedding: torch.Tensor

    def keep(self, name: str, out: torch.Tensor) -> None:
        self.found[name] = out.detach().numpy().copy()

    def answer(self, run: str, points: np.ndarray, labels: Any = None, box: Any = None) -> None:
        """Ask SAM by points as it gets them, and keep what comes on the way."""
        sam, size = self.model.net.sam, self.patch.shape[:2]
        hooks = [
            sam.prompt_encoder.register_forward_hook(
                lambda *call: self.keep(f"{run}_sparse", call[2][0][0])
            ),
            sam.mask_decoder.transformer.register_forward_hook(
                lambda *call: self.keep(f"{run}_tokens", call[2][0][0, :5])
            ),
        ]
        with torch.inference_mode():
            if labels is None:
                low, score = self.model.net.masked(self.embedding, points)
            else:
                at = torch.from_numpy(points)[None], torch.tensor(labels)[None]
                sparse, dense = sam.prompt_encoder(at, torch.tensor(box)[None].float(), None)
                place = sam.prompt_encoder.get_dense_pe()
                lows, scores = sam.mask_decoder(self.embedding, place, sparse, dense, False)
                low, score = lows[0, 0], scores[0, 0]
            whole = over_patch(low[None], size)[0]
        for hook in hooks:
            hook.remove()
        self.keep(f"{run}_low_res", low)
        self.keep(f"{run}_iou", score.reshape(1, 1))
        self.keep(f"{run}_prob", whole.sigmoid())
        self.keep(f"{run}_mask", whole > 0)


def heat_arrays(raw: list[np.ndarray], size: tuple[int, int]) -> dict[str, np.ndarray]:
    heat = Heat.of(raw, size)
    found = {f"cam_raw_{90 * turn}": raw[turn] for turn in TURNS}
    found |= {"cam_avg_u8": heat.cells, "cam_norm": heat.weights()}
    return found | {f"cam_mask_{name}": heat.mask(PROFILES[name]) for name in LABELS}


@pytest.fixture(scope="module")
def seen(load: Callable, arrays: Callable, det_init: Any) -> Callable[[str], Seen]:
    """One pass through each network for each case."""
    known: dict[str, Seen] = {}

    def of(case: str) -> Seen:
        if case not in known:
            wanted, model = arrays(case), load(case)
            _, height, width, seed = SETS[case]
            patch = det_init.image(height, width, seed)
            net, sam = model.net.classifier, model.net.sam
            here = Seen(model, patch, {}, torch.zeros(0))

            def watch(name: str, part: Any, *, here: Seen = here) -> Any:
                return part.register_forward_hook(lambda *call: here.keep(name, call[2][0]))

            x = classifier_input(patch)[None]
            here.keep("clf_hf", detail(x)[0, 0])
            hooks = [
                *(watch(f"clf_{name}", getattr(net, name)) for name in ("conv1", "layer1")),
                *(watch(f"clf_{name}", getattr(net, name)) for name in ("layer2", "layer3")),
            ]
            raw = []
            with torch.inference_mode():
                for turn in TURNS:
                    features = net.features(classifier_input(turned(patch, turn))[None])
                    raw.append(net.heat(features)[0].numpy())
                    for hook in hooks:  # of the first turn alone
                        hook.remove()
                    if turn == 0:
                        here.keep("clf_layer4_0", features[0])
                        hook = watch("clf_layer4", net.layer4[-1])
                        here.keep("clf_logit", net.judged(features)[:, None])
                        hook.remove()
                here.found |= heat_arrays(raw, patch.shape[:2])
                if case == "b":
                    turned_over = heat_arrays([-one for one in raw], patch.shape[:2])
                    here.found |= {f"{name}_negfc": one for name, one in turned_over.items()}
                frame = Frame((width, height))
                pixels = frame.image(patch)[0, :, : frame.inner[0], : frame.inner[1]]
                std, mean = (torch.tensor(v).view(3, 1, 1) for v in (PIXEL_STD, PIXEL_MEAN))
                here.keep("sam_resized", (pixels * std + mean).round())
                blocks = {n: sam.image_encoder.blocks[n] for n in (0, 2, 11)}
                hooks = [watch(f"sam_block{n}", block) for n, block in blocks.items()]
                here.embedding = model.net.embedded(patch)
                for hook in hooks:
                    hook.remove()
                here.keep("sam_embedding", here.embedding[0])
            given = wanted["points"] if case == "a" else np.array(PLACES)
            for run, kind in (("asis", "patch"), ("scaled", "sam")):
                here.answer(run, Recipe(points_frame=kind).at(given, (height, width)))
            if case == "b":
                here.answer("mixed", np.array(MIXED[0], np.float32), MIXED[1], MIXED[2])
                here.answer("fallback", np.zeros((1, 2), np.float32))
            known[case] = here
        return known[case]

    return of


def bare(name: str) -> str:
    """Return a name without that of the run before it."""
    run, _, rest = name.partition("_")
    return rest if run in SETS_OF_PROMPTS else name


def bound_of(name: str) -> float:
    return next(bound for start, bound in BOUNDS.items() if bare(name).startswith(start))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


@CASES
def test_all_arrays(case: str, arrays: Callable, seen: Callable) -> None:
    here = seen(case)
    size, compared = here.patch.shape[:2], 0
    for key, wanted in arrays(case).items():
        plain = key.replace("_negfc", "")
        if plain.startswith("points") or plain.endswith("_ids"):
            continue  # below
        name = plain.removesuffix("_stats").removesuffix("_area")
        if plain.endswith("_area") and not plain.startswith("cam"):
            name += "_mask"
        whole = here.found.get(name + ("_negfc" if "_negfc" in key else ""))
        if plain == "sam_resized_shape":
            assert here.found["sam_resized"].shape == tuple(wanted)
        elif plain.endswith("_area"):
            share = 0.98 if plain.startswith("cam") else 0.999
            assert share * int(wanted[0]) <= whole.sum() <= int(wanted[0]) / share, key
        elif "mask" in plain and not plain.endswith("_stats"):
            truth = np.unpackbits(wanted)[: size[0] * size[1]].reshape(size).astype(bool)
            least = 0.98 if plain.startswith("cam") else 0.999
            assert overlap(whole, truth) >= least, key
        elif plain.endswith("_stats"):
            exact = whole.astype(np.float64)
            stats = [exact.mean(), exact.std(), np.abs(exact).max()]
            np.testing.assert_allclose(stats, wanted, atol=bound_of(name), rtol=0, err_msg=key)
        else:
            part = whole[STRIDES.get(bare(name), np.s_[:])].astype(np.float64)
            np.testing.assert_allclose(part, wanted, atol=bound_of(name), rtol=0, err_msg=key)
        compared += 1
    assert compared >= 50


@CASES
def test_points(case: str, arrays: Callable, seen: Callable) -> None:
    wanted, here = arrays(case), seen(case)
    if case == "b":
        # Upstream asks for (0, 0) where nothing is warm; here nothing is asked.
        for name in LABELS:
            empty = here.found[f"cam_mask_{name}"]
            assert not empty.any()
            assert drawn(empty, np.random.default_rng(1), here.found["cam_norm"]).shape == (0, 2)
        warm, weights = here.found["cam_mask_camelyon17_negfc"], here.found["cam_norm_negfc"]
        found = drawn(warm, np.random.RandomState(4), weights)
        np.testing.assert_array_equal(found, wanted["points_negfc_seed4"])
        return
    mask = np.unpackbits(wanted["cam_mask_camelyon17"]).reshape(512, 512).astype(bool)
    found = drawn(mask, np.random.RandomState(21), here.found["cam_norm"])
    np.testing.assert_array_equal(found, wanted["points"])
    uniform = drawn(mask, np.random.RandomState(21))
    np.testing.assert_array_equal(uniform, wanted["points_uniform_seed21"])
    for run in ("asis", "scaled"):
        ids = agreement(mask, here.found[f"{run}_mask"])
        assert ids == pytest.approx(float(wanted[f"{run}_ids"][0]), abs=1e-4)


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-public"])
def test_the_public_model(
    case: str, seen: Callable, arrays: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the encoder's answer from before: its own points, the gate, the form of the answer."""
    here = seen(case)
    model = here.model
    assert isinstance(model, RegionModel)
    logit = float(here.found["clf_logit"][0, 0])
    asked: list[np.ndarray] = []
    with monkeypatch.context() as patch:
        patch.setattr(model.net, "embedded", lambda seen: asked.append(seen) or here.embedding)
        proposal = model.propose(here.patch)
        np.testing.assert_array_equal(asked[0], here.patch)
        patch.setattr(model, "recipe", replace(model.recipe, gate=0.99))
        assert not model.probabilities(here.patch).any()
        assert len(asked) == 1
        patch.setattr(model, "recipe", replace(model.recipe, gate=0.5))
        patch.setattr(model.net, "judged", lambda *_: (logit, proposal.heat))
        found = model.probabilities(here.patch)
        assert len(asked) == 2
    assert proposal.tumour == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    np.testing.assert_array_equal(proposal.warm, here.found["cam_mask_camelyon17"])
    assert len(np.unique(proposal.points, axis=0)) == 50
    assert proposal.warm[proposal.points[:, 1], proposal.points[:, 0]].all()
    assert found.shape == (1, 512, 512)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], proposal.likely)
    # Other points of the same heat map give nearly the same mask.
    assert overlap(proposal.mask, here.found["asis_mask"]) > 0.9


@pytest.fixture(scope="module")
def figures(parity_dir: Path) -> dict[str, Any]:
    return json.loads((parity_dir / FOLDER / "loss_golden.json").read_text())


@pytest.mark.parametrize("name", ["seg_1", "seg_2", "seg_empty"], ids=lambda n: f"{FOLDER}-{n}")
def test_losses(name: str, figures: dict) -> None:
    wanted = figures[name]
    if name == "seg_empty":
        probable = target = torch.zeros(1, 8, 8)
    else:
        rng = np.random.default_rng(101 if name == "seg_1" else 102)
        shape = (1, 32, 32) if name == "seg_1" else (3, 24, 40)
        logits = torch.from_numpy(rng.normal(0, 2, shape).astype(np.float32))
        target = torch.from_numpy((rng.random(shape) < 0.35).astype(np.float32))
        probable = logits.sigmoid()
        assert float(mask_loss(logits, target)) == pytest.approx(wanted["total"], rel=1e-5)
    hard = (probable > 0.5).float()
    found = {
        "dice_loss": dice_loss(probable, target),
        "iou_loss": iou_loss(probable, target),
        "dice_metric_hard": 1 - dice_loss(hard, target),
        "iou_metric_hard": 1 - iou_loss(hard, target),
    }
    for part, value in found.items():
        assert float(value.mean()) == pytest.approx(wanted[part], rel=1e-5, abs=1e-7), part


@pytest.mark.parametrize("name", ["classifier"], ids=[f"{FOLDER}-patch-loss"])
def test_the_loss_of_patches(name: str, figures: dict) -> None:
    rng = np.random.default_rng(103)
    logits = torch.from_numpy(rng.normal(0, 1.5, 16).astype(np.float32))
    labels = torch.from_numpy((rng.random(16) < 0.5).astype(np.float32))
    wanted = figures[name]["train_bce_with_logits"]
    assert float(patch_loss(logits, labels)) == pytest.approx(wanted, rel=1e-5)
    right = ((logits > 0).float() == labels).float().mean()
    assert float(right) == figures[name]["accuracy"]


@pytest.mark.parametrize("name", ["adl"], ids=[f"{FOLDER}-dropout"])
def test_dropout_by_attention(name: str, figures: dict) -> None:
    wanted = figures[name]
    rng = np.random.default_rng(104)
    x = torch.from_numpy(rng.normal(0.2, 1, (2, 6, 5, 7)).astype(np.float32))
    for branch, out in (("drop", hidden(x)), ("importance", weighed(x))):
        assert float(out.sum()) == pytest.approx(wanted[f"{branch}_branch_sum"], rel=1e-5)
        assert float(out.abs().sum()) == pytest.approx(wanted[f"{branch}_branch_abs_sum"], rel=1e-5)
    kept = (hidden(x) != 0).any(1).flatten(1).sum(1)
    assert kept.tolist() == wanted["kept_per_image"]
    layer = AttentionDropout()
    drops = sum(torch.equal(layer(x), hidden(x)) for _ in range(2000))
    assert drops / 2000 == pytest.approx(0.75, abs=0.04)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("name", ["ids"], ids=[f"{FOLDER}-agreement"])
def test_agreement(name: str, figures: dict) -> None:
    wanted = figures[name]
    rng = np.random.default_rng(105)
    warm = rng.random((64, 64)) < 0.7
    mask = rng.random((64, 64)) < 0.3
    assert agreement(warm, mask) == pytest.approx(wanted["ids"], rel=1e-5)
    assert agreement(warm, np.zeros_like(mask)) == wanted["ids_when_sam_empty"]
    within = wanted["ids_when_sam_subset_of_cam"]
    assert agreement(warm | mask, mask) == pytest.approx(within, rel=1e-5)


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-train-step"])
def test_one_step_of_training(case: str, seen: Callable, arrays: Callable, figures: dict) -> None:
    here, wanted = seen(case), figures["decoder_step_A"]
    net, given = here.model.net, arrays(case)
    target = np.unpackbits(given["cam_mask_camelyon17"]).reshape(1, 512, 512)
    truth = torch.from_numpy(target.astype(np.float32))
    decoder = net.sam.mask_decoder
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    embedding = here.embedding.clone()
    points = Recipe(points_frame="patch").at(given["points"], (512, 512))

    def masks() -> torch.Tensor:
        return over_patch(net.masked(embedding, points)[0][None], (512, 512))

    try:
        decoder.requires_grad_(True)
        logits = masks()
        probable = logits.sigmoid()
        total = mask_loss(logits, truth)
        for name, value in (
            ("dice_loss", dice_loss(probable, truth)[0]),
            ("iou_loss", iou_loss(probable, truth)[0]),
            ("total", total),
        ):
            assert float(value.detach()) == pytest.approx(wanted[name], abs=1e-4), name
        total.backward()
        grads = {f"mask_decoder.{name}": part.grad for name, part in decoder.named_parameters()}
        for name, norm in wanted["grad_l2_norm"].items():
            assert float(grads[name].norm()) == pytest.approx(norm, rel=0.01), name
        for name, grad in grads.items():
            if ".iou_prediction_head." in name:
                assert grad is None, name
            elif any(f".output_hypernetworks_mlps.{n}." in name for n in (1, 2, 3)):
                assert not grad.any(), name
            else:
                assert grad.any(), name
        torch.optim.AdamW(decoder.parameters(), lr=1e-4, weight_decay=1e-2).step()
        with torch.no_grad():
            assert float(mask_loss(masks(), truth)) < float(total.detach())
    finally:
        decoder.load_state_dict(before)
        decoder.zero_grad(set_to_none=True)
        net.requires_grad_(False)
