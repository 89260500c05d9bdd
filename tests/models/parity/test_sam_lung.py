"""All of folder sam_lung: encoder, decoder with and without attention, mask, losses, gradients."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.sam.mona import mona_parts
from napari_histosam.models.sam_lung.decoder import PyramidDecoder
from napari_histosam.models.sam_lung.load import network
from napari_histosam.models.sam_lung.loss import (
    RATE,
    WEIGHTS,
    cross_entropy,
    dice_loss,
    loss,
    pace,
)
from napari_histosam.models.sam_lung.model import SamLungModel
from napari_histosam.models.sam_lung.network import build, learned, published_name
from napari_histosam.models.sam_lung.post import rounded
from napari_histosam.models.sam_lung.trainable import SamLungTrainable
from napari_histosam.train.evaluation.areas import Confusion, border_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "sam_lung"
# (weights' seed, height, width, image's seed)
SETS = {"a": (11, 1024, 1024, 101), "b": (97, 320, 448, 202)}
CASES = pytest.mark.parametrize("case", SETS, ids=lambda case: f"{FOLDER}-{case}")
MEAN, STD = (0.709, 0.381, 0.224), (0.127, 0.079, 0.043)
FINE, COARSE, RELATIVE = 5e-5, 5e-4, 1e-4
STAGES = range(4)


@pytest.fixture(scope="module")
def folder(parity_dir: Path) -> Path:
    return parity_dir / FOLDER


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Callable[[str], dict[str, np.ndarray]]:
    def of(name: str) -> dict[str, np.ndarray]:
        path = folder / f"golden_{name}.npz"
        if not path.is_file():
            pytest.skip(f"the arrays golden_{name}.npz of {FOLDER} are not in {folder.parent}")
        with np.load(path, allow_pickle=False) as data:
            return {key: data[key] for key in data.files}

    return of


@pytest.fixture(scope="module")
def states(folder: Path, det_init: Any) -> Callable[..., dict[str, torch.Tensor]]:
    def of(seed: int, keys: str = "keys", start: str = "") -> dict[str, torch.Tensor]:
        rows = json.loads((folder / f"{keys}.json").read_text())
        made = det_init.state_dict([row for row in rows if row[0].startswith(start)], seed)
        return {name: torch.from_numpy(np.asarray(value)) for name, value in made.items()}

    return of


@pytest.fixture(scope="module")
def load(
    states: Callable, tmp_path_factory: pytest.TempPathFactory, session_registry: ModelRegistry
) -> Iterator[Callable[[str], SamLungModel]]:
    """Load a case from a file as the authors' trainer writes it, once."""
    known: dict[str, SamLungModel] = {}
    paths: list[Path] = []

    def of(case: str) -> SamLungModel:
        if case not in known:
            path = tmp_path_factory.mktemp(FOLDER) / "best_model.pth"
            paths.append(path)
            kept = {
                "model": states(SETS[case][0]),
                "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0]}]},
                "lr_scheduler": {"last_epoch": 3, "_get_lr_called_within_step": False},
                "epoch": 3,
                "args": argparse.Namespace(num_classes=1, lr=0.01, device="cuda"),
            }
            torch.save(kept, path)
            model = session_registry.load("sam-lung", "cpu", [path])
            assert isinstance(model, SamLungModel)
            known[case] = model
        return known[case]

    yield of
    for path in paths:
        path.unlink()  # 386 MB each


@dataclass
class Seen:
    """What went through the network, by the names of the reference arrays."""

    found: dict[str, torch.Tensor] = field(default_factory=dict)
    likely: np.ndarray | None = None

    def watch(self, name: str, part: torch.nn.Module, *, tokens: bool = False) -> Any:
        def keep(_module: Any, _inputs: Any, out: torch.Tensor) -> None:
            self.found[name] = (out.flatten(1, 2) if tokens else out).detach().clone()

        return part.register_forward_hook(keep)


@pytest.fixture(scope="module")
def seen(load: Callable, arrays: Callable, det_init: Any) -> Callable[[str], Seen]:
    """One forward pass for each case, watched; at 1024 px it is the one that users get."""
    known: dict[str, Seen] = {}

    def of(case: str) -> Seen:
        if case not in known:
            arrays(case)
            model, result = load(case), Seen()
            encoder, decoder = model.net.image_encoder, model.net.mask_decoder
            first = encoder.blocks[0]
            hooks = [
                result.watch("patch_embed", encoder.patch_embed),
                result.watch("block0_attn", first.attn, tokens=True),
                result.watch("block0_mona1", first.mona1, tokens=True),
                result.watch("block0_mona2", first.mona2, tokens=True),
                *(result.watch(f"block{n}", encoder.blocks[n], tokens=True) for n in (0, 2, 5, 11)),
                result.watch("embedding", encoder),
                *(result.watch(f"stage{n}", decoder.psp_module.stages[n]) for n in STAGES),
                result.watch("psp", decoder.psp_module),
                result.watch("logits_low", decoder.classifier),
                result.watch("out", model.net),
            ]
            _, height, width, seed = SETS[case]
            image = det_init.image(height, width, seed)
            if case == "a":
                result.likely = model.probabilities(image)
                result.found["input"] = model.pixels.tensor(image)[None]
            else:
                x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255
                mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
                result.found["input"] = (x - mean) / std
                with torch.inference_mode():
                    model.net(result.found["input"])
            for hook in hooks:
                hook.remove()
            known[case] = result
        return known[case]

    return of


TOKENS = {"a": np.s_[:, ::101, ::48], "b": np.s_[:, ::17, ::48]}
WHERE = {
    "input": dict.fromkeys("ab", np.s_[:, :, ::64, ::64]),
    "patch_embed": {"a": np.s_[:, ::8, ::8, ::48], "b": np.s_[:, ::4, ::4, ::48]},
    **dict.fromkeys(("block0_attn", "block0_mona1", "block0_mona2"), TOKENS),
    **dict.fromkeys(("block0", "block2", "block5", "block11"), TOKENS),
    "embedding": {"a": np.s_[:, ::16, ::4, ::4], "b": np.s_[:, ::8, ::2, ::2]},
    **dict.fromkeys((f"stage{n}" for n in STAGES), dict.fromkeys("ab", np.s_[:])),
    "psp": {"a": np.s_[:, ::8, ::8, ::8], "b": np.s_[:, ::8, ::4, ::4]},
    "logits_low": dict.fromkeys("ab", np.s_[:]),
    "out": dict.fromkeys("ab", np.s_[:, :, ::16, ::16]),
}


@CASES
def test_all_arrays(case: str, arrays: Callable, seen: Callable) -> None:
    wanted, found = arrays(case), seen(case).found
    for name, places in WHERE.items():
        whole = found[name].numpy()
        bound = COARSE if name.startswith(("patch", "block")) else FINE
        np.testing.assert_allclose(
            whole[places[case]], wanted[name], atol=bound, rtol=RELATIVE, err_msg=name
        )
        exact = whole.astype(np.float64)
        stats = [exact.mean(), exact.std(), np.abs(exact).max()]
        np.testing.assert_allclose(
            stats, wanted[f"{name}_stats"], atol=bound, rtol=RELATIVE, err_msg=name
        )
    label = found["out"].argmax(1)[0].numpy()
    packed = np.unpackbits(wanted["label_packed"]).reshape(1024, 1024)
    assert (label != packed).mean() <= 5e-4
    assert abs(label.mean() - float(wanted["label_fraction"])) <= 5e-4
    kept = {name for name in wanted if not name.endswith("_stats")}
    assert kept == {*WHERE, "label_packed", "label_fraction"}


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-public"])
def test_the_public_model_gives_the_probabilities_of_these_logits(
    case: str, load: Callable, seen: Callable
) -> None:
    model, result = load(case), seen(case)
    assert isinstance(model, RegionModel)
    assert result.likely is not None
    assert result.likely.shape == (1, 1024, 1024)
    assert result.likely.dtype == np.float32
    wanted = result.found["out"].softmax(1)[0, 1:].numpy()
    np.testing.assert_allclose(result.likely, wanted, atol=1e-6)


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-trainable"])
def test_what_learns(case: str, load: Callable, folder: Path) -> None:
    parts = learned(load(case).net)
    wanted = json.loads((folder / "trainable.json").read_text())
    assert set(parts) == set(wanted)
    assert len(parts) == 402
    assert sum(part.numel() for part in parts.values()) == 2_784_066
    adapters = {name for name, *_ in json.loads((folder / "keys_mona.json").read_text())}
    assert {f"image_encoder.{name}" for name in adapters} == {n for n in parts if ".mona" in n}
    assert {adapter.norm.eps for adapter in mona_parts(load(case).net)} == {1e-5}
    with torch.device("meta"):
        net = build(2, cbam=False)
    for method in ("mona", "decoder"):
        SamLungTrainable(load(case).card, net, method)
        taught = {name for name, part in learned(net).items() if part.requires_grad}
        assert taught == {n for n in wanted if method == "mona" or n.startswith("mask_decoder.")}
        assert sum(p.requires_grad for p in net.parameters()) == len(taught)


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-positions"])
def test_positions_and_sam_s_own_decoder_change_nothing(
    case: str, load: Callable, folder: Path
) -> None:
    net = load(case).net
    state = {published_name(name): value for name, value in net.state_dict().items()}
    position = "image_encoder.sam.image_encoder.pos_embed"
    state[position] = state[position] + 5
    for name, shape, _ in json.loads((folder / "keys.json").read_text()):
        if name.startswith(("image_encoder.sam.prompt_", "image_encoder.sam.mask_")):
            state[name] = torch.full(shape, 5.0)
    assert len(state) == 731
    other = network(state, "perturbed").requires_grad_(False)
    assert not torch.equal(other.image_encoder.pos_embed, net.image_encoder.pos_embed)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("run", ["decoder_train"], ids=lambda run: f"{FOLDER}-{run}")
def test_the_decoder_in_training(run: str, arrays: Callable, states: Callable) -> None:
    wanted = arrays(run)
    decoder = PyramidDecoder(2, cbam=False)
    own = states(11, start="mask_decoder.")
    decoder.load_state_dict({k.removeprefix("mask_decoder."): v for k, v in own.items()})
    decoder.train().psp_module.bottleneck[3].p = 0.0
    x = np.random.default_rng(41).standard_normal((4, 256, 8, 8)).astype(np.float32)
    found = {"logits_low": decoder.low(torch.from_numpy(x)).detach(), **decoder.state_dict()}
    for name, value in wanted.items():
        relative = RELATIVE if name.endswith("running_var") else 0
        np.testing.assert_allclose(found[name], value, atol=FINE, rtol=relative, err_msg=name)
    assert len(wanted) == 10


@pytest.mark.parametrize("run", ["cbam"], ids=lambda run: f"{FOLDER}-{run}")
def test_the_decoder_with_attention(
    run: str, arrays: Callable, states: Callable, load: Callable
) -> None:
    """Through the loader, which tells the variant from the names in the file."""
    wanted, own = arrays(run), states(11, "keys_cbam_decoder")
    named = {published_name(k): v for k, v in load("a").net.state_dict().items()}
    state = {k: v for k, v in named.items() if not k.startswith("mask_decoder.")}
    decoder = network({**state, **own}, "a file with attention").mask_decoder
    result = Seen()
    for number, stage in enumerate(decoder.psp_module.stages):
        result.watch(f"cbam{number}", stage[1])
        result.watch(f"stage{number}", stage)
    x = np.random.default_rng(42).standard_normal((1, 256, 20, 28)).astype(np.float32)
    with torch.inference_mode():
        result.found["logits_low"] = decoder.low(torch.from_numpy(x))
        out = decoder(torch.from_numpy(x), (1024, 1024))
    result.found["out"] = out[:, :, ::16, ::16]
    assert set(result.found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(result.found[name], value, atol=FINE, rtol=0, err_msg=name)


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-gradients"])
def test_gradients(case: str, load: Callable, det_init: Any, folder: Path) -> None:
    """Through the checkpoints of the blocks, with norms and dropout as in use."""
    model = load(case)
    wanted = json.loads((folder / "grad_golden.json").read_text())
    x = torch.from_numpy(det_init.image(128, 128, 303).transpose(2, 0, 1).copy())[None] / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    coarse = np.random.default_rng(51).integers(0, 2, (32, 32))
    target = torch.from_numpy(np.kron(coarse, np.ones((32, 32), np.int64)))[None]
    parts = learned(model.net)
    try:
        for part in parts.values():
            part.requires_grad_(True)
        found = loss(model.net((x - mean) / std), target, WEIGHTS)
        found.backward()
        assert float(found.detach()) == pytest.approx(wanted["loss"], rel=1e-5)
        norms = {name: float(part.grad.norm()) for name, part in parts.items()}
        assert norms == pytest.approx(wanted["grad_l2"], rel=2e-3)
        for name, part in model.net.named_parameters():
            assert (part.grad is None) == (published_name(name) not in parts), name
    finally:
        model.net.zero_grad(set_to_none=True)
        model.net.requires_grad_(False)


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "loss_golden.json").read_text())


@pytest.mark.parametrize(
    "name", ["plain", "ignore", "unweighted", "empty_target"], ids=lambda n: f"{FOLDER}-{n}"
)
def test_losses(name: str, figures: dict) -> None:
    wanted = figures[name]
    rng = np.random.default_rng(wanted["seed"])
    n, _, height, width = wanted["logits_shape"]
    logits = torch.from_numpy(rng.standard_normal(wanted["logits_shape"]).astype(np.float32))
    target = np.zeros((n, height, width), np.int64)
    if name != "empty_target":
        target = rng.integers(0, 2, (n, height, width))
        target[:, : wanted["ignored_rows"]] = 255
    truth, weights = torch.from_numpy(target), wanted["class_weights"]
    found = {
        "ce": cross_entropy(logits, truth, weights),
        "dice_loss": dice_loss(logits, truth),
        "total": loss(logits, truth, weights),
    }
    for part, value in found.items():
        if part in wanted:
            assert float(value) == pytest.approx(wanted[part], rel=1e-5, abs=1e-6), part


@pytest.mark.parametrize("name", ["lr_schedule"], ids=[f"{FOLDER}-rate"])
def test_the_learning_rate(name: str, figures: dict) -> None:
    wanted = figures[name]
    assert wanted["base_lr"] == RATE
    for step, rate in wanted["lr_at_step"].items():
        found = RATE * pace(int(step), wanted["steps_per_epoch"], wanted["epochs"])
        assert found == pytest.approx(rate, rel=1e-5, abs=1e-12), step


@pytest.mark.parametrize("name", ["metrics"], ids=[f"{FOLDER}-metrics"])
def test_figures_of_a_map(name: str, figures: dict) -> None:
    wanted = figures[name]
    rng = np.random.default_rng(wanted["seed"])
    logits = rng.standard_normal(wanted["logits_shape"]).astype(np.float32)
    truth = rng.integers(0, 2, (1, *wanted["logits_shape"][2:]))
    truth[:, : wanted["ignored_rows"]] = 255
    found = Confusion.of(logits.argmax(1), truth, 2)
    assert found.counts.tolist() == wanted["confusion_rows_true_cols_pred"]
    assert found.accuracy == pytest.approx(wanted["global_acc"], rel=1e-5)
    np.testing.assert_allclose(found.recall, wanted["class_acc"], rtol=1e-5)
    np.testing.assert_allclose(found.iou, wanted["iou"], rtol=1e-5)
    assert found.iou.mean() == pytest.approx(wanted["mean_iou"], rel=1e-5)
    assert found.dice[1] == pytest.approx(wanted["foreground_dice"], rel=1e-5)


@pytest.mark.parametrize("run", ["post"], ids=[f"{FOLDER}-post"])
def test_rounding_off_and_its_figures(run: str, arrays: Callable) -> None:
    packed = arrays(run)
    masks = {
        name: np.unpackbits(packed[f"{name}_packed"]).reshape(1024, 1024).astype(bool)
        for name in ("raw", "opened", "closed", "target")
    }
    np.testing.assert_array_equal(rounded(masks["raw"]), masks["closed"])
    np.testing.assert_array_equal(rounded(masks["opened"]), masks["closed"])
    np.testing.assert_array_equal(rounded(masks["raw"], None), masks["raw"])
    assert not np.array_equal(masks["raw"], masks["closed"])
    found, truth = masks["closed"], masks["target"]
    counts = Confusion.of(found.astype(int), truth.astype(int), 2)
    figures = [counts.accuracy, counts.iou[1], counts.dice[1], border_distance(found, truth)]
    np.testing.assert_allclose(figures, packed["metrics_acc_iou_dice_hd95"], atol=1e-6, rtol=0)
