"""All of folder wsi_sam: both encodings, both decoders, the mask of both, loss and training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_histosam.models.protocols import Embedding, ObjectPrompts
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import PromptBatch, batches
from napari_histosam.models.wsi_sam.load import added
from napari_histosam.models.wsi_sam.loss import cross_entropy, dice, enlarged, loss
from napari_histosam.models.wsi_sam.model import WsiSamModel
from napari_histosam.models.wsi_sam.network import Fused, View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "wsi_sam"
SEEDS = {"a": 11, "b": 97}
# (height, width, seed) of the image of each window
IMAGES = {
    "a_hr": (1024, 1024, 101),
    "a_lr": (1024, 1024, 102),
    "b_hr": (896, 960, 201),
    "b_lr": (1024, 1024, 202),
}
FEATURES, LOGITS, STAT = 2e-4, 5e-4, (1e-4, 1e-4, 5e-4)
FEATURE = np.s_[0, ::4, ::16, ::16]
RUNS = ["a1", "a2", "b1", "b2"]


def box(*corners: float) -> ObjectPrompts:
    """Return a box given as upstream's pixel indices."""
    return ObjectPrompts(box=np.array(corners) + 0.5)


def points(*at: tuple[float, float]) -> ObjectPrompts:
    return ObjectPrompts(points=np.array(at) + 0.5, labels=np.array([1, 1, 0]))


def blob(x: float, y: float, squared: float) -> ObjectPrompts:
    yy, xx = np.mgrid[:256, :256]
    inside = (xx - x) ** 2 + (yy - y) ** 2 < squared
    return ObjectPrompts(logits=(inside * 255.0).astype(np.float32))


B1 = [(420.0, 333.0), (507.0, 290.0), (120.0, 700.0)]
PROMPTS = {
    "a1_hr": box(0, 0, 964, 697),
    "a1_lr": box(256, 256, 738, 604),
    "a2_hr": box(301, 275, 655, 808),
    "a2_lr": box(406, 393, 583, 660),
    "b1_hr": points(*B1),
    "b1_lr": points(*[(x / 2 + 256, y / 2 + 256) for x, y in B1]),
    "b2_hr": blob(128, 100, 3600),
    "b2_lr": blob(128, 114, 900),
}


@dataclass
class Case:
    """A model with the views of its two images."""

    model: WsiSamModel
    views: dict[str, View]

    def answer(self, *runs: str) -> Fused:
        """Answer the prompts of runs in one call."""
        batch = {side: batch_of([f"{run}_{side}" for run in runs]) for side in ("hr", "lr")}
        with torch.inference_mode():
            return self.model.net(self.views["hr"], self.views["lr"], batch["hr"], batch["lr"])


def size_of(branch: str) -> tuple[int, int]:
    height, width, _ = IMAGES[f"{branch[0]}_{branch[-2:]}"]
    return width, height


def batch_of(branches: list[str]) -> PromptBatch:
    frame = Frame(size_of(branches[0]), scaled=False)
    (batch,) = batches([PROMPTS[branch] for branch in branches], frame, 8)
    return batch


@pytest.fixture(scope="module")
def files(checkpoint: Callable) -> Callable[[str], list[Path]]:
    def of(case: str) -> list[Path]:
        seed = SEEDS[case]
        return [
            checkpoint(FOLDER, "net_low", seed, "net_low.pth", wrapped=True),
            checkpoint(FOLDER, "mobile_sam", seed, "mobile_sam.pt"),
            checkpoint(FOLDER, "net_high", seed, "net_high.pth", wrapped=True),
        ]

    return of


@pytest.fixture(scope="module")
def case(files: Callable, session_registry: ModelRegistry, det_init: Any) -> Callable[[str], Case]:
    known: dict[str, Case] = {}

    def of(run: str) -> Case:
        name = run[0]
        if name not in known:
            model = session_registry.load("wsi-sam", "cpu", files(name))
            assert isinstance(model, WsiSamModel)
            views = {}
            for side in ("hr", "lr"):
                height, width, seed = IMAGES[f"{name}_{side}"]
                image = det_init.image(height, width, seed)
                with torch.inference_mode():
                    views[side] = model.net.view(Frame((width, height), scaled=False).image(image))
            known[name] = Case(model, views)
        return known[name]

    return of


def stat(x: torch.Tensor) -> list[float]:
    return [float(x.mean()), float(x.std()), float(x.abs().max())]


class Compared:
    """Compares tensors with those arrays of a run that are there, and counts them."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.seen: set[str] = set()

    def close(self, name: str, found: Any, tolerance: float) -> None:
        if name in self.arrays:
            found, wanted = np.asarray(found), self.arrays[name]
            assert found.shape == wanted.shape, name
            off = np.abs(found.astype(np.float64) - wanted).max() if found.size else 0.0
            assert off <= tolerance, f"{name} is off by {off}"
            self.seen.add(name)

    def stat(self, name: str, found: torch.Tensor) -> None:
        if name in self.arrays:
            off = np.abs(np.array(stat(found)) - self.arrays[name])
            assert (off <= STAT).all(), f"{name} is off by {off}"
            self.seen.add(name)


def decoder_of(case: Case, side: str) -> Any:
    return case.model.net.high if side == "hr" else case.model.net.low


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{FOLDER}-{run}")
def test_all_arrays(run: str, golden: Callable, case: Callable) -> None:
    arrays = golden(FOLDER, run)
    arrays = {k: v for k, v in arrays.items() if "_mobilesam_" not in k}
    compared, here = Compared(arrays), case(run)
    fused = here.answer(run)
    net = here.model.net
    with torch.inference_mode():
        for side, branch, final in (
            ("hr", fused.high, fused.fine()),
            ("lr", fused.low, fused.coarse()),
        ):
            name, view, decoder = f"{run}_{side}_", here.views[side], decoder_of(here, side)
            early = view.early.permute(0, 2, 3, 1)
            compared.close(name + "embedding_s", view.embedding[0, ::8, ::4, ::4], FEATURES)
            compared.stat(name + "embedding_stat", view.embedding)
            compared.close(name + "early_s", early[0, ::4, ::4, ::8], FEATURES)
            compared.stat(name + "early_stat", early)
            batch = batch_of([f"{run}_{side}"])
            sparse, dense = net.prompt_encoder(batch.points, batch.boxes, batch.masks)
            compared.close(name + "sparse", sparse, FEATURES)
            compared.close(name + "dense_s", dense[0, ::8, ::8, ::8], FEATURES)
            hidden, source = decoder.transformed(
                view.embedding, net.prompt_encoder.get_dense_pe(), sparse, dense
            )
            compared.close(name + "tokens_out", hidden, FEATURES)
            compared.close(name + "src_out_s", source[0, ::32, ::8], FEATURES)
            last = decoder.embedding_encoder(view.embedding)
            first = decoder.compress_vit_feat(view.early)
            own = branch.feature - decoder.window_feature(view.embedding, view.early)
            compared.close(name + "final_branch_s", last[FEATURE], FEATURES)
            compared.close(name + "early_branch_s", first[FEATURE], FEATURES)
            compared.close(name + "maskfeature_s", own[FEATURE], FEATURES)
            compared.close(name + "fused_feature_s", branch.feature[FEATURE], FEATURES)
            compared.stat(name + "fused_feature_stat", branch.feature)
            compared.close(name + "kernel", branch.kernel[:, None], FEATURES)
            compared.close(name + "mask_sam_s", branch.plain[0, 0, ::4, ::4], LOGITS)
            compared.stat(name + "mask_sam_stat", branch.plain[:, 0])
            several = branch.plain[0, 1 + int(branch.scores[0, 1:].argmax())]
            compared.close(name + "mask_sam_multimask_s", several[::4, ::4], LOGITS)
            alone = enlarged(branch.token_logits(branch.kernel), (1024, 1024))
            compared.close(name + "mask_own_1024_s", alone[0, ::16, ::16], LOGITS)
            token = branch.token_logits(fused.kernel)
            compared.close(name + "mask_token_256_s", token[0, ::4, ::4], LOGITS)
            compared.stat(name + "mask_token_256_stat", token)
            compared.close(name + "final_256", final[0], LOGITS)
            compared.stat(name + "final_256_stat", final)
            compared.close(name + "final_256_s", final[0, ::4, ::4], LOGITS)
        compared.close(f"{run}_kernel_sum", fused.kernel[:, None], FEATURES)
        # The window's logits are cut to the window; upstream then stretches them to a square.
        inner = Frame(size_of(f"{run}_hr"), scaled=False).window_logits(fused.fine())
        compared.close(f"{run}_hr_final_cropped_s", inner[0, ::8, ::8], LOGITS)
        stretched = functional.interpolate(inner[None], (1024, 1024), mode="bilinear")[0, 0]
        compared.close(f"{run}_hr_final_1024_s", stretched[::8, ::8], LOGITS)
        compared.stat(f"{run}_hr_final_1024_stat", stretched)
        compared.close(f"{run}_hr_area_fraction", (stretched > 0).double().mean(), 1e-4)
    assert compared.seen == set(arrays)


@pytest.mark.parametrize("runs", [("a1", "a2")], ids=lambda runs: f"{FOLDER}-{'-'.join(runs)}")
def test_two_objects_in_one_call_get_what_each_gets_alone(
    runs: tuple[str, ...], golden: Callable, case: Callable
) -> None:
    fused = case(runs[0]).answer(*runs)
    assert fused.fine().shape == (len(runs), 256, 256)
    large = Frame((1024, 1024), scaled=False).window_logits(fused.fine())
    for row, run in enumerate(runs):
        arrays = golden(FOLDER, run)
        compared = Compared(arrays)
        compared.close(f"{run}_kernel_sum", fused.kernel[row, None, None], FEATURES)
        compared.close(f"{run}_hr_final_1024_s", large[row, ::8, ::8], LOGITS)
        assert len(compared.seen) == 2


@pytest.mark.parametrize("run", ["a1"], ids=lambda run: f"{FOLDER}-{run}")
def test_the_public_model_answers_as_its_network(
    run: str, golden: Callable, case: Callable
) -> None:
    """Through `decode`, which moves the prompts to the coarse window itself and never floors."""
    here = case(run)
    arrays = {
        f"{window}_{name}": getattr(here.views[side], name)[0].numpy()
        for window, side in (("fine", "hr"), ("coarse", "lr"))
        for name in ("embedding", "early")
    }
    embedding = Embedding(arrays, size_of(f"{run}_hr"))
    (answer,) = here.model.decode(embedding, [PROMPTS[f"{run}_hr"]])
    real = box(256, 256, 738, 604.5)
    frame = Frame((1024, 1024), scaled=False)
    (coarse,) = batches([real], frame, 1)
    with torch.inference_mode():
        wanted = here.model.net(here.views["hr"], here.views["lr"], batch_of([f"{run}_hr"]), coarse)
        assert np.abs(answer.logits[0] - wanted.fine()[0].numpy()).max() < 1e-5
        assert (answer.masks == (frame.window_logits(wanted.fine()) > 0).numpy()).all()
    # Half a coarse pixel is all that upstream's floor moves.
    assert np.abs(answer.logits[0] - golden(FOLDER, run)[f"{run}_hr_final_256"]).max() < 0.5


@pytest.fixture(scope="module")
def losses(parity_dir: Path) -> dict:
    return json.loads((parity_dir / FOLDER / "loss_golden.json").read_text())


@pytest.mark.parametrize("number", [0, 1], ids=lambda n: f"{FOLDER}-seed{n}")
def test_losses(number: int, losses: dict) -> None:
    wanted = losses["losses"][number]
    rng = np.random.default_rng(wanted["seed"])
    logits = [2 * rng.standard_normal((1, 1, 32, 32)).astype(np.float32) for _ in range(2)]
    truths = [rng.random((1, 1, 128, 128)) < share for share in (0.3, 0.1)]
    high, low = (enlarged(torch.from_numpy(x)[:, 0], (128, 128)) for x in logits)
    fine, coarse = (torch.from_numpy(x)[:, 0] for x in truths)
    found = {
        "dice_high": dice(high, fine),
        "dice_low": dice(low, coarse),
        "bce_high": cross_entropy(high, fine),
        "bce_low": cross_entropy(low, coarse),
        "total": loss(high, low, fine, coarse),
    }
    for name, value in found.items():
        assert float(value[0]) == pytest.approx(wanted[name], abs=1e-5), name


@pytest.mark.parametrize("number", [2, 3], ids=[f"{FOLDER}-empty", f"{FOLDER}-batch"])
def test_losses_of_an_empty_truth_and_of_a_batch(number: int, losses: dict) -> None:
    rng = np.random.default_rng(number)
    n = 1 if number == 2 else 3
    logits = torch.from_numpy(rng.standard_normal((n, 1, 64, 64)).astype(np.float32))[:, 0]
    truth = torch.zeros(n, 64, 64, dtype=torch.bool)
    if n == 3:
        truth = torch.from_numpy(rng.random((n, 1, 64, 64)) < 0.4)[:, 0]
    wanted = losses["empty_target" if n == 1 else "batch_of_3"]
    assert float(dice(logits, truth).mean()) == pytest.approx(wanted["dice"], abs=1e-5)
    assert float(cross_entropy(logits, truth).mean()) == pytest.approx(wanted["bce"], abs=1e-5)


def disk(x: float, y: float, radius: float) -> torch.Tensor:
    yy, xx = np.mgrid[:1024, :1024]
    return torch.from_numpy((xx - x) ** 2 + (yy - y) ** 2 < radius**2)[None]


@pytest.mark.parametrize("run", ["a1"], ids=[f"{FOLDER}-train-step"])
def test_one_step_of_training(run: str, losses: dict, case: Callable, files: Callable) -> None:
    wanted = losses["train_step"]
    here = case(run)
    net = here.model.net
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (fine,) = batches([box(0, 0, 964, 697)], Frame((1024, 1024), scaled=False), 1)
    (coarse,) = batches([box(256, 256, 738, 604.5)], Frame((1024, 1024), scaled=False), 1)
    truths = disk(400, 350, 300), disk(456, 431, 150)
    views = {  # without the mark of inference mode
        side: View(view.embedding.clone(), view.early.clone()) for side, view in here.views.items()
    }
    trained = {
        f"net_{side}.{name}": value
        for side, decoder in (("high", net.high), ("low", net.low))
        for name, value in added(decoder).items()
    }
    assert len(trained) == 50

    def losses_now() -> dict[str, torch.Tensor]:
        fused = net(views["hr"], views["lr"], fine, coarse)
        high = enlarged(fused.high.token_logits(fused.kernel), (1024, 1024))
        low = enlarged(fused.low.token_logits(fused.kernel), (1024, 1024))
        return {
            "dice_high": dice(high, truths[0])[0],
            "dice_low": dice(low, truths[1])[0],
            "bce_high": cross_entropy(high, truths[0])[0],
            "bce_low": cross_entropy(low, truths[1])[0],
            "total": loss(high, low, *truths)[0],
        }

    try:
        for value in trained.values():
            value.requires_grad_(True)
        optimiser = torch.optim.AdamW(trained.values(), lr=1e-3, weight_decay=0.01)
        now = losses_now()
        for name, value in now.items():
            assert value.item() == pytest.approx(wanted["before"][name], abs=1e-4), name
        now["total"].backward()
        assert set(wanted["grad_l2"]) == set(trained)
        for name, norm in wanted["grad_l2"].items():
            gradient = trained[name].grad
            assert gradient is not None
            assert float(gradient.norm()) == pytest.approx(norm, rel=1e-3), name
        others = [n for n, p in net.named_parameters() if p.grad is not None]
        assert len(others) == 50
        optimiser.step()
        with torch.no_grad():
            for name, value in losses_now().items():
                step = wanted["after_one_adamw_step"][name]
                assert value.item() == pytest.approx(step, abs=1e-3), name
    finally:
        net.load_state_dict(before)
        net.requires_grad_(False)
        for value in trained.values():
            value.grad = None
