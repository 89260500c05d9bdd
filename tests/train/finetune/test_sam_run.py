"""SAM, with random weights, through the same loop: decoder, LoRA, Mona."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.sam import build
from napari_histosam.models.sam.build import build_sam, published_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def imported(variant: str, folder: Path) -> str:
    """Import a SAM of random weights; return the model's name."""
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
    torch.save(state, folder / "sam.pth")
    return ModelRegistry(offline_dirs=[]).import_file(folder / "sam.pth", "random-sam").name


@pytest.mark.parametrize(
    ("variant", "method", "parts"),
    [
        ("vit_t", "decoder", ("mask_decoder.",)),
        ("vit_t", "lora", ("mask_decoder.", ".lora_down", ".lora_up")),
        ("vit_b", "mona", ("mask_decoder.", ".mona1.", ".mona2.")),
    ],
)
def test_a_sam_is_trained_by_each_method(
    plan: Callable,
    train: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    method: str,
    parts: tuple[str, ...],
) -> None:
    monkeypatch.setitem(build._VIT, "vit_b", (768, 1, 12, ()))
    name = imported(variant, tmp_path)
    asked = plan(epochs=1, limit=1, batch=1, objects=1, patience=9)
    one = replace(asked, model=name, method=method)
    status = train(one)
    assert status["state"] == "done"
    assert (one.out / "features").exists() == (method == "decoder")
    best = load_file(one.out / "best.safetensors")
    for part in parts:
        assert any(part in key for key in best)
    assert all(any(part in key for part in parts) for key in best)
    kept = torch.load(one.out / "last.pt", weights_only=True)
    moved = [k for k, v in kept["trained"].items() if not torch.equal(v, best[k])]
    assert moved or status["best_epoch"] == 1
