"""Both prompt-driven systems can learn a few glands by heart, from encoders of random weights."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.models.catalog import write_card
from napari_histosam.models.i_medsam.load import fresh_adapted, save_adapted
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.sam import build
from napari_histosam.models.sam.build import build_sam, published_names
from napari_histosam.models.trained import build_trainable
from napari_histosam.models.wsi_sam.load import fresh_decoder, save_decoder
from napari_histosam.train.finetune.features import Encoded
from napari_histosam.train.finetune.step import Memory, Teacher
from napari_histosam.train.finetune.validation import COLUMNS, Examined, judge
from napari_histosam.train.finetune.windows import cut
from napari_histosam.train.labelled import entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.windows import Sample

CPU = torch.device("cpu")


def random_sam(variant: str) -> dict[str, torch.Tensor]:
    """Return the weights of a SAM that knows nothing: norms are identity, masks are empty."""
    torch.manual_seed(0)
    sam = build_sam(variant)
    state = {}
    for name, ours in published_names(sam).items():
        value = sam.state_dict()[ours]
        state[name] = torch.ones_like(value) if value.dtype != torch.float32 else value
        if value.ndim >= 2:
            state[name] = torch.randn_like(value) / math.sqrt(math.prod(value.shape[1:]))
        elif value.dtype == torch.float32:
            state[name] = torch.full_like(value, float(name.endswith(("weight", "running_var"))))
        if "output_hypernetworks_mlps" in name and ".layers.2." in name:
            state[name] = torch.zeros_like(value)  # else noise would be added to WSI-SAM's masks
    return state


def import_wsi_sam(folder: Path) -> str:
    """Import WSI-SAM with a random MobileSAM and fresh decoders; return its name."""
    sam = random_sam("vit_t")
    files = [folder / name for name in ("mobile_sam.pt", "net_high.pth", "net_low.pth")]
    torch.save(sam, files[0])
    for path, side in zip(files[1:], ("high", "low"), strict=True):
        save_decoder(fresh_decoder(sam), side, path)
    return ModelRegistry(offline_dirs=[]).import_files(files, "fresh-wsi-sam").name


def import_i_medsam(folder: Path, side: int | None = None) -> str:
    """Import I-MedSAM with a random ViT and fresh networks, for windows of a side; return its name.

    What an object fills of its window stays the same.
    """
    sam = random_sam("vit_b")
    files = [folder / "sam_vit_b_01ec64.pth", folder / "i_medsam.pth"]
    torch.save(sam, files[0])
    save_adapted(fresh_adapted(sam), files[1])
    registry = ModelRegistry(offline_dirs=[])
    card = registry.import_files(files, "fresh-i-medsam")
    if side is not None and card.object_px is not None:
        least, most = (px * side / card.window_px for px in card.object_px)
        small = replace(card, window_px=side, object_px=(least, most))
        write_card(small, registry.folder / f"{card.name}.json")
    return card.name


def overfit(
    model: Trainable,
    samples: list[Sample],
    steps: int,
    goal: float,
    seconds: float = math.inf,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[float, int]:
    """Train on samples by the model's recipe; return the Dice by box on them, and the steps."""
    encoded = None
    if model.method == "decoder":
        encoded = Encoded(model, None, "overfit", CPU, contextlib.nullcontext)
    teacher = Teacher(
        model, encoded, 0, 4, CPU, contextlib.nullcontext, torch.Tensor.backward,
        Memory(len(samples)), True, lambda _: None,
    )  # fmt: skip
    groups = [
        {"params": [p], "lr": model.rate * model.pace(name)}
        for name, p in model.module.named_parameters()
        if p.requires_grad
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    objects = [Examined(one, number, None) for one in samples for number in one.numbers]
    begun, dice = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        sums = teacher.gradients(samples, step)
        for group in groups:
            for part in group["params"]:
                if part.grad is not None:
                    part.grad /= max(float(sums[0]), 1.0)
        optimiser.step()
        late = time.monotonic() - begun > seconds
        if step % 20 == 0 or step == steps or late:
            found = judge(model, objects, encoded, CPU, contextlib.nullcontext)
            iou = found[:, COLUMNS.index("box")]
            dice = float(np.mean(2 * iou / (1 + iou)))
            say(f"{model.card.name} step {step}: loss {sums[1] / sums[0]:.3f}, Dice {dice:.3f}")
            if dice >= goal or late:
                return dice, step
    return dice, steps


def glands(model: Trainable, shared_data: Path, most: int) -> list[Sample]:
    """Return windows that show so many glands together at most, those that fill them best."""
    found = cut(entries(shared_data / "glands", ["dev_train"]), model.card)
    found = sorted(found, key=lambda one: (len(one.numbers) > 4, one.window.scale, one.entry.name))
    chosen: list[Sample] = []
    for one in found:
        left = most - sum(len(sample.numbers) for sample in chosen)
        if left <= 0:
            break
        chosen.append(replace(one, numbers=one.numbers[:left]))
    return chosen


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_i_medsam_learns_a_gland_by_heart(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ViT-B of two blocks, frozen; windows of 128 px, never turned or coloured anew."""
    monkeypatch.setitem(build._VIT, "vit_b", (768, 2, 12, (1,)))
    name = import_i_medsam(tmp_path, side=128)
    torch.manual_seed(0)
    model = build_trainable(ModelRegistry(offline_dirs=[]), name, "decoder")
    dice, _ = overfit(model, glands(model, shared_dir / "data", 1), 200, 0.95)
    assert dice >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_wsi_sam_learns_a_gland_by_heart(shared_dir: Path, tmp_path: Path) -> None:
    """MobileSAM's encoder of full size with random weights, frozen; both decoders fresh."""
    name = import_wsi_sam(tmp_path)
    torch.manual_seed(0)
    model = build_trainable(ModelRegistry(offline_dirs=[]), name, "decoder")
    dice, _ = overfit(model, glands(model, shared_dir / "data", 1), 600, 0.95)
    assert dice >= 0.95
