"""Checkpoints of all kinds are read, and nothing in them is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint, strip_prefixes
from napari_histosam.models.detect import detect, mismatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": STATE, "optimizer": {"step": torch.tensor(3)}, "epoch": 4},
        {"model_state": {f"sam.{k}": v for k, v in STATE.items()}},
        {"state_dict": {f"module.{k}": v for k, v in STATE.items()}, "meta": {"x": "y"}},
        {"model": {"state_dict": {f"module.sam.{k}": v for k, v in STATE.items()}}},
        {"model": STATE, "args": argparse.Namespace(lr=1e-3), "best": np.float64(0.5)},
        {"model": STATE, "history": np.arange(4.0)},
        {k: torch.nn.Parameter(v) for k, v in STATE.items()},
    ],
)
def test_wrappers_and_prefixes_are_taken_away(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    found = read_checkpoint(path)
    assert list(found) == list(STATE)
    for name, value in STATE.items():
        assert torch.equal(found[name].detach(), value)


def test_old_torch_format_and_safetensors(tmp_path: Path) -> None:
    old, safe, misnamed = tmp_path / "o.pth", tmp_path / "s.safetensors", tmp_path / "s.pth"
    torch.save({"model": STATE}, old, _use_new_zipfile_serialization=False)
    save_file(STATE, safe)
    misnamed.write_bytes(safe.read_bytes())
    for path in (old, safe, misnamed):
        found = read_checkpoint(path)
        assert torch.equal(found["a.weight"], STATE["a.weight"])


def test_a_prefix_that_only_some_names_have_stays() -> None:
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(strip_prefixes(state)) == ["module.a", "b"]


def test_a_trainers_objects_are_passed_over(tmp_path: Path, mmengine_file: Callable) -> None:
    path = tmp_path / "epoch_50.pth"
    mmengine_file(path, STATE)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_checkpoint(path)
    assert list(found) == list(STATE)
    assert torch.equal(found["a.weight"], STATE["a.weight"])


def test_harm_among_a_trainers_objects_is_refused(tmp_path: Path, mmengine_file: Callable) -> None:
    trace, path = tmp_path / "ran", tmp_path / "epoch_50.pth"
    mmengine_file(path, {**STATE, "x": Harmful(trace)})
    assert "could run code" in assert_refused(path)
    assert not trace.exists()


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("kind", ["zip", "old", "pickle", "pickle2"])
def test_harmful_files_do_nothing(tmp_path: Path, kind: str) -> None:
    trace, path = tmp_path / "ran", tmp_path / "bad.pth"
    content = {"model": STATE, "x": Harmful(trace)}
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=2 if kind == "pickle2" else 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    assert_refused(path)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, share: float, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    big = {"w": torch.randn(200, 200)}
    if suffix == ".pth":
        torch.save(big, path)
    else:
        save_file(big, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"hello, I am a text\n" * 9, "checkpoint"),
        (os.urandom(3000), "checkpoint"),
        (b"PK\x03\x04" + bytes(500), "checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert word in assert_refused(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, {"model": {}}, torch.ones(3)])
def test_files_without_weights_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert "no weights" in assert_refused(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.pth")
    assert_refused(tmp_path)


def assert_refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_sam_sizes_are_told_from_shapes(sam_shapes: Callable) -> None:
    for variant in ("vit_b", "vit_l", "vit_h", "vit_t"):
        found = detect(sam_shapes(variant))
        assert (found.decoder, found.variant) == ("sam", variant)


@pytest.mark.parametrize(
    ("names", "decoder"),
    [
        (["hf_token.weight", "mask_tokens.weight"], "wsi-sam"),
        (["w_a_000", "prompt_encoder.no_mask_embed.weight"], "i-medsam"),
        (["image_encoder.x", "mask_decoder.seg_field.k.weight"], "i-medsam"),
        (["backbone.pos_embed", "roi_head.mask_head.learned_prompt.weight"], "des-sam"),
        (["neck.stages.0.0.weight", "rpn_head.rpn_conv.0.conv.weight"], "des-sam"),
        (["roi_head.bbox_head.fc_cls.weight", "rpn_head.rpn_cls.weight"], None),
        (["mask_decoder.psp_module.x", "mask_decoder.iou_token.weight"], "sam-lung"),
        (["sam.image_encoder.blocks.0.mona1.gamma"], "sam-lung"),
        (["mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight"], "ep-sam"),
        (["mask_decoder.hf_token.weight", "image_encoder.pos_embed"], None),
        (["image_encoder.trunk.pos_embed"], None),
        (["fc.weight"], None),
        ([], None),
    ],
)
def test_other_families_are_named(names: list[str], decoder: str | None) -> None:
    found = detect(dict.fromkeys(names, (1, 2)))
    assert found.decoder == decoder
    assert found.what


def test_mismatch_lists_few_names() -> None:
    assert mismatch({"a": (1,)}, {"a": (1,)}) is None
    assert mismatch({"a": (1,), "x": ()}, {"a": (1,)}, optional=["x"]) is None
    text = mismatch(dict.fromkeys("abcde", (1,)) | {"s": (2, 3)}, {"s": (3, 2), "z": (1,)})
    assert text == "missing a, b, c and 2 more; unexpected z; shape of s 3x2 in place of 2x3"
