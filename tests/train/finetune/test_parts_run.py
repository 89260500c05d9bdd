"""WSI-SAM and I-MedSAM, with random weights, through the loop and into the user's models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_overfit import import_i_medsam, import_wsi_sam

from napari_histosam.errors import InputError
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.sam import build
from napari_histosam.train.finetune.result import keep
from napari_histosam.train.finetune.splits import divide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def parts_of(model: Any) -> dict[str, torch.Tensor]:
    """Return all weights of a loaded model."""
    return dict(model.net.state_dict())


BOX = ObjectPrompts(box=np.array([20.0, 30.0, 90.0, 100.0]))


@pytest.mark.parametrize(
    ("bring", "method", "prefixes", "tensors", "files"),
    [
        pytest.param(
            *(import_wsi_sam, "decoder", ("high/", "low/"), 50, ["net_high.pth", "net_low.pth"]),
            marks=pytest.mark.slow,
        ),
        (import_i_medsam, "lora", ("adapted/",), None, ["i_medsam.pth"]),
    ],
)
def test_what_a_run_makes_is_a_model_that_needs_all_files_of_its_base(
    plan: Callable,
    train: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bring: Callable,
    method: str,
    prefixes: tuple[str, ...],
    tensors: int | None,
    files: list[str],
) -> None:
    monkeypatch.setitem(build._VIT, "vit_b", (768, 1, 12, ()))
    base = bring(tmp_path)
    asked = plan(epochs=1, limit=1, batch=1, objects=1, patience=9)
    one = replace(asked, model=base, method=method)
    status = train(one)
    assert status["state"] == "done"
    learned = load_file(one.out / "best.safetensors")
    assert all(name.startswith(prefixes) for name in learned)
    assert tensors is None or len(learned) == tensors
    kept = torch.load(one.out / "last.pt", weights_only=True)
    moved = [k for k, v in kept["trained"].items() if not torch.equal(v, learned[k])]
    assert moved or status["best_epoch"] == 1

    registry = ModelRegistry(offline_dirs=[])
    card = keep(registry, one, divide(one), "mine")
    assert card.window_scales == registry.get(base).window_scales
    assert registry.files("mine")[0].stat().st_size < 10_000_000
    model = registry.load("mine", "cpu")
    assert model.weights_hash != registry.load(base, "cpu").weights_hash
    image = np.full((128, 128, 3), 200, np.uint8)
    (answer,) = model.decode(model.encode([image] * len(card.window_scales)), [BOX])
    assert answer.masks.shape == (1, 128, 128)
    with pytest.raises(InputError, match=f"trained here from {base}: leave the files away"):
        registry.load("mine", "cpu", registry.files(base))

    # Its own files and the base's encoder make the same model on any machine.
    made = registry.export("mine", tmp_path / "out")
    assert [path.name for path in made] == files
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    elsewhere = ModelRegistry(tmp_path / "elsewhere", offline_dirs=[])
    taken = elsewhere.import_files([registry.files(base)[0], *made], "taken")
    assert (taken.trained, taken.window_px) == (None, card.window_px)
    again = elsewhere.load("taken", "cpu")
    (same,) = again.decode(again.encode([image] * len(card.window_scales)), [BOX])
    np.testing.assert_array_equal(same.masks, answer.masks)
    np.testing.assert_array_equal(same.scores, answer.scores)
    for name, part in parts_of(model).items():
        assert torch.equal(part, parts_of(again)[name]), name

    # Another file in the place of any of the base's is noticed.
    other = registry.files(base)[-1]
    whole = other.read_bytes()
    other.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="mine was trained from another file than the"):
        ModelRegistry(offline_dirs=[]).load("mine", "cpu")
    other.unlink()
    assert not registry.is_ready("mine")
