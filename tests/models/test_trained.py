"""Trained models: kept small, loaded with their base, refused without it, exported plain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.models.cards import ModelCard, Trained
from napari_histosam.models.catalog import card_from_dict, card_to_dict, read_card
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam import build
from napari_histosam.models.trained import (
    base_hash,
    build_trainable,
    keep_trained,
    plain_state,
    weights_of,
    write_trained,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.trainable import Trainable


def changed(model: Trainable, size: float = 0.02) -> dict[str, torch.Tensor]:
    """Return what such a model might have learned."""
    torch.manual_seed(4)
    with torch.no_grad():
        for part in model.module.parameters():
            if part.requires_grad:
                part.add_(size * torch.randn_like(part))
    return model.state()


def kept(registry: ModelRegistry, base: str, method: str, name: str, tmp_path: Path) -> ModelCard:
    state = changed(build_trainable(registry, base, method))
    about = {"base": base, "base_hash": base_hash(registry, base), "method": method}
    write_trained(tmp_path / "best.safetensors", state, about)
    card = registry.get(base)
    trained = Trained(base, about["base_hash"], method, "own", "sha256:0", 3, "2026-01-01")
    made = {**card_to_dict(card), "name": name, "aliases": (), "trained": None}
    whole = ModelCard(**{**card_from_dict(made).__dict__, "trained": trained})
    return keep_trained(registry, whole, tmp_path / "best.safetensors")


CLICK = ObjectPrompts(np.array([[200.0, 150.0]]), np.array([1]))


def test_a_trained_decoder_is_a_model_like_any_other(
    registry: ModelRegistry, he_image: Callable, tmp_path: Path
) -> None:
    card = kept(registry, "histosam-small", "decoder", "mine", tmp_path)
    assert read_card(registry.folder / "mine.json") == card
    row = registry.describe_one("mine")
    assert row["ready"]
    assert row["trained"]["base"] == "histosam-small"
    assert "mine" in {r["name"] for r in registry.describe()}
    json.dumps(row)
    assert row["bytes"] < 6_000_000
    model = registry.load("mine", "cpu")
    assert len(model.weights_hash) == 64
    assert model.weights_hash != registry.load("histosam-small", "cpu").weights_hash
    image = he_image(256, 320, 3)
    (answer,) = model.decode(model.encode([image]), [CLICK])
    (before,) = registry.load("histosam-small", "cpu").decode(model.encode([image]), [CLICK])
    assert not np.array_equal(answer.logits[0], before.logits[0])
    assert registry.verify("mine")[0]["status"] == "ok"


def test_training_goes_on_from_a_trained_model(registry: ModelRegistry, tmp_path: Path) -> None:
    kept(registry, "histosam-small", "decoder", "first", tmp_path)
    kept(registry, "first", "full", "second", tmp_path)
    plain, own = weights_of(registry, "second"), read_checkpoint(registry.files("second")[0])
    for name, value in own.items():
        assert torch.equal(plain[name], value)
    assert registry.is_ready("second")
    (registry.folder / "first.safetensors").unlink()
    assert not registry.is_ready("second")
    with pytest.raises(InputError, match="second was trained from first, whose weights are not on"):
        registry.load("second", "cpu")


def test_another_file_in_the_base_s_place_is_refused(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    kept(registry, "histosam-small", "decoder", "first", tmp_path)
    kept(registry, "first", "decoder", "second", tmp_path)
    kept(registry, "histosam-small", "full", "first", tmp_path)
    with pytest.raises(InputError, match="second was trained from another file than the first"):
        registry.load("second", "cpu")
    assert registry.load("first", "cpu").card.trained is not None


def test_a_file_that_is_gone_or_changed_is_one_sentence(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    kept(registry, "histosam-small", "decoder", "mine", tmp_path)
    path = registry.folder / "mine.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"is not what was trained as mine \(its hash differs"):
        registry.load("mine", "cpu")
    write_trained(path, {"decoder.odd.weight": torch.zeros(2)}, {})
    with pytest.raises(InputError, match="put it back"):
        registry.load("mine", "cpu")
    path.unlink()
    with pytest.raises(InputError, match=r"mine.safetensors of mine is not in .* put it back"):
        registry.load("mine", "cpu")
    assert not registry.is_ready("mine")


def test_what_does_not_fit_its_base_is_refused() -> None:
    base = {"a.weight": torch.zeros(2, 3)}
    for odd in ({"b.weight": torch.zeros(1)}, {"c.lora_down": torch.zeros(1, 3)}):
        with pytest.raises(InputError, match="does not fit its base"):
            plain_state(base, odd)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_exported_small_model_loads_through_the_public_loader(
    registry: ModelRegistry, he_image: Callable, tmp_path: Path, suffix: str
) -> None:
    kept(registry, "histosam-small", "full", "mine", tmp_path)
    out = tmp_path / f"plain{suffix}"
    assert registry.export("mine", out) == [out]
    image = he_image(128, 128, 1)
    ours = registry.load("mine", "cpu")
    theirs = registry.load("histosam-small", "cpu", [out])
    embedding = ours.encode([image])
    for name, array in theirs.encode([image]).arrays.items():
        np.testing.assert_array_equal(embedding.arrays[name], array)
    (a,), (b,) = ours.decode(embedding, [CLICK]), theirs.decode(embedding, [CLICK])
    np.testing.assert_array_equal(a.logits, b.logits)


def test_lora_is_merged_and_loads_as_a_plain_sam(
    registry: ModelRegistry, mobile_file: Path, tmp_path: Path
) -> None:
    registry.import_file(mobile_file, "tiny-sam")
    kept(registry, "tiny-sam", "lora", "mine", tmp_path)
    out = tmp_path / "plain.pt"
    registry.export("mine", out)
    plain, base = read_checkpoint(out), read_checkpoint(mobile_file)
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in base.items()}
    differ = {k for k in base if not torch.equal(plain[k].float(), base[k].float())}
    assert any(".qkv.weight" in k for k in differ)
    assert all(".qkv.weight" in k or k.startswith("mask_decoder.") for k in differ)
    own = read_checkpoint(registry.files("mine")[0])
    stem = next(k for k in own if k.endswith(".lora_up")).removesuffix(".lora_up")
    wanted = base[f"{stem}.weight"] + own[f"{stem}.lora_up"] @ own[f"{stem}.lora_down"]
    torch.testing.assert_close(plain[f"{stem}.weight"], wanted, atol=1e-5, rtol=0)
    assert registry.import_file(out, "again").decoder == "sam"


def test_mona_keeps_its_adapters_through_export_and_import(
    registry: ModelRegistry,
    make_weights: Callable,
    sam_shapes: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(build._VIT, "vit_b", (768, 1, 12, ()))
    torch.save(make_weights(sam_shapes("vit_b"), 7), tmp_path / "vit.pth")
    registry.import_file(tmp_path / "vit.pth", "short-vit")
    kept(registry, "short-vit", "mona", "mine", tmp_path)
    out = tmp_path / "plain.safetensors"
    registry.export("mine", out)
    taken = registry.import_file(out, "again")
    assert taken.variant == "vit_b"
    sams = [registry.load(name, "cpu")._sam for name in ("mine", "again")]
    ours, theirs = (sam.state_dict() for sam in sams)
    assert ours.keys() == theirs.keys()
    assert any(".mona1." in name for name in ours)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])


def test_odd_cards_are_passed_over(registry: ModelRegistry, tmp_path: Path) -> None:
    card = kept(registry, "histosam-small", "decoder", "mine", tmp_path)
    data = card_to_dict(card)
    for trained in ({"base": "x"}, {**data["trained"], "base": 3}, {**data["trained"], "odd": 1}):
        (registry.folder / "odd.json").write_text(
            json.dumps({**data, "name": "odd", "trained": trained}), "utf-8"
        )
        assert "odd" not in registry.cards()


def test_a_model_trained_from_itself_ends(registry: ModelRegistry, tmp_path: Path) -> None:
    card = kept(registry, "histosam-small", "decoder", "mine", tmp_path)
    data = card_to_dict(card)
    data["trained"] = {**data["trained"], "base": "mine", "base_hash": card.files[0].hash}
    (registry.folder / "mine.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(InputError, match="mine"):
        registry.load("mine", "cpu")


def test_nothing_is_left_where_the_folder_cannot_be_written(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from napari_histosam.models import files

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(HistosamError, match="The disk is full"):
        write_trained(tmp_path / "best.safetensors", {"a": torch.zeros(3)}, {})
    assert list(tmp_path.glob("*safetensors*")) == []
