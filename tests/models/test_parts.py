"""Models of several files: which is which, what is missing, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.checkpoint import read_checkpoint, read_labels
from napari_histosam.models.files import file_hash
from napari_histosam.models.parts import arranged, read_part
from napari_histosam.models.wsi_sam.load import save_decoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry


def refused(call: Callable, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def copied(path: Path, folder: Path, name: str) -> Path:
    target = folder / name
    target.write_bytes(path.read_bytes())
    return target


def test_files_are_told_apart_in_any_order(registry: ModelRegistry, wsi_files: list[Path]) -> None:
    card = registry.get("wsi-sam")
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        given = [wsi_files[n] for n in order]
        assert arranged(card, given, lambda _entry: None) == wsi_files


def test_what_is_here_need_not_be_given(registry: ModelRegistry, wsi_files: list[Path]) -> None:
    card = registry.get("wsi-sam")
    assert arranged(card, wsi_files[1:], lambda _entry: wsi_files[0])[0] == wsi_files[0]
    text = refused(arranged, card, wsi_files[:2], lambda _entry: None)
    assert "'low' (net_low.pth) is missing" in text


def test_swapped_decoders_are_noticed(
    registry: ModelRegistry, wsi_files: list[Path], tmp_path: Path
) -> None:
    """By the label in our own files; by name where there is none; never taken on trust."""
    encoder, high, low = wsi_files
    state = read_checkpoint(high)
    ours = tmp_path / "net_low.pth"
    save_decoder(state, "high", ours)
    assert read_labels(ours) == {"role": "high"}
    assert "swapped" in refused(registry.load, "wsi-sam", "cpu", [encoder, high, ours])
    named = tmp_path / "mine.pth"
    save_decoder(state, "high", named)
    assert read_part("wsi-sam", named).name == "high"
    unnamed = copied(high, tmp_path, "a.pth")
    assert "cannot be told" in refused(registry.load, "wsi-sam", "cpu", [encoder, unnamed, low])
    twice = copied(high, tmp_path, "another_high.pth")
    assert "both the part 'high'" in refused(
        registry.load, "wsi-sam", "cpu", [encoder, high, twice]
    )
    same = copied(high, tmp_path, "same_low.pth")
    assert "hold the same weights" in refused(
        registry.load, "wsi-sam", "cpu", [encoder, high, same]
    )
    # In the weights folder the names count, too.
    registry.folder.mkdir(parents=True)
    save_decoder(state, "high", registry.folder / "net_low.pth")
    assert "swapped" in refused(read_part, "wsi-sam", registry.folder / "net_low.pth")


def test_wrong_files_are_refused_in_a_sentence(
    registry: ModelRegistry, wsi_files: list[Path], tmp_path: Path
) -> None:
    encoder, high, low = wsi_files

    def load(*files: Path) -> str:
        return refused(registry.load, "wsi-sam", "cpu", list(files))

    whole = high.read_bytes()
    cut = tmp_path / "net_high.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in load(encoder, cut, low)
    other = tmp_path / "other_high.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    assert "no part of wsi-sam" in load(encoder, other, low)
    state = read_checkpoint(high)
    del state["hf_mlp.layers.2.bias"]
    torch.save({"model": state}, other)
    assert "missing hf_mlp.layers.2.bias" in load(encoder, other, low)
    assert "missing hf_mlp.layers.2.bias" in refused(registry.import_file, other)
    state = read_checkpoint(high)
    state["compress_vit_feat.0.weight"] = torch.zeros(768, 256, 2, 2)
    torch.save({"model": state}, other)
    assert "encoder of vit_b" in load(encoder, other, low)
    assert "no file" in load(encoder, high, tmp_path / "none_low.pth")
    assert "is missing" in load(high, low)


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_a_file_that_would_run_code_is_refused(
    registry: ModelRegistry,
    wsi_files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "net_high.pth"
    torch.save({"model": read_checkpoint(wsi_files[1]), "optimizer": Harmful()}, path)
    text = refused(registry.load, "wsi-sam", "cpu", [wsi_files[0], path, wsi_files[2]])
    assert "could run code" in text
    refused(registry.import_file, path)
    assert capsys.readouterr().out == ""


def test_parts_are_imported_one_by_one(registry: ModelRegistry, wsi_files: list[Path]) -> None:
    _, high, low = wsi_files
    assert registry.import_file(high).name == "wsi-sam"
    assert not registry.is_ready("wsi-sam")
    assert registry.import_file(low).name == "wsi-sam"
    assert (registry.folder / "net_low.pth").read_bytes() == low.read_bytes()
    assert [p is None for p in registry.describe_one("wsi-sam")["files"]] == [True, False, False]
    # The place of the encoder is kept for the published file.
    text = refused(registry.import_file, wsi_files[0], "wsi-sam")
    assert "together with its high and low part" in text


def test_own_parts_become_a_model_of_their_own(
    registry: ModelRegistry, wsi_files: list[Path]
) -> None:
    card = registry.import_files(reversed(wsi_files), "My ducts")
    assert card.name == "my-ducts"
    assert [entry.part for entry in card.files] == ["encoder", "high", "low"]
    assert [entry.hash for entry in card.files] == [f"sha256:{file_hash(p)}" for p in wsi_files]
    assert registry.is_ready("my-ducts")
    assert registry.import_files(wsi_files, "my-ducts") == card
    model = registry.load("my-ducts", "cpu")
    given = registry.load("wsi-sam", "cpu", wsi_files)
    assert model.weights_hash == given.weights_hash
    assert "taken" in refused(registry.import_files, wsi_files, "mobile-sam")
    assert "letters" in refused(registry.import_files, wsi_files, "???")
    # A place that holds another file already is never overwritten.
    registry.import_files(wsi_files[1:], "wsi-sam")
    (registry.folder / "net_low.pth").write_bytes(b"another")
    assert "not the whole" in refused(registry.import_file, wsi_files[2])
    assert (registry.folder / "net_low.pth").read_bytes() == b"another"


def test_the_parts_that_lie_in_the_folder_are_found_by_their_cards(
    registry: ModelRegistry, wsi_files: list[Path]
) -> None:
    from dataclasses import replace

    from napari_histosam.models.catalog import write_card

    card = registry.get("wsi-sam")
    files = tuple(WeightFile(e.name, part=e.part) for e in card.files)
    registry.folder.mkdir(parents=True)
    write_card(replace(card, name="wsi-own", files=files), registry.folder / "wsi-own.json")
    for entry, path in zip(files, wsi_files, strict=True):
        copied(path, registry.folder, entry.name)
    said: list[str] = []
    model = registry.load("wsi-own", "cpu", say=said.append)
    assert model.card.window_scales == (1.0, 2.0)
    assert sum("its own is used" in sentence for sentence in said) == 2
    # Put into each other's place they have the names, but one says what it is.
    save_decoder(read_checkpoint(wsi_files[1]), "high", registry.folder / "net_low.pth")
    assert "swapped" in refused(registry.load, "wsi-own")


def test_a_decoder_file_with_only_what_is_added_takes_the_rest_from_the_encoders_file(
    registry: ModelRegistry, wsi_files: list[Path], tmp_path: Path
) -> None:
    from napari_histosam.models.wsi_sam.decoder import is_added

    state = {k: v.clone() for k, v in read_checkpoint(wsi_files[1]).items() if is_added(k)}
    assert len(state) == 25
    short = tmp_path / "short.pth"
    save_decoder(state, "high", short)
    said: list[str] = []
    model = registry.load("wsi-sam", "cpu", [wsi_files[0], short, wsi_files[2]], said.append)
    assert sum("its own is used" in sentence for sentence in said) == 1
    plain = read_checkpoint(wsi_files[0])
    own = model.net.high.state_dict()  # type: ignore[attr-defined]
    name = "transformer.layers.0.mlp.lin1.weight"
    np.testing.assert_array_equal(own[name], plain[f"mask_decoder.{name}"])
    np.testing.assert_array_equal(own["hf_token.weight"], state["hf_token.weight"])


def test_the_encoder_can_be_had_without_attention_biases(
    registry: ModelRegistry, wsi_files: list[Path]
) -> None:
    """Biases that were loaded count; the variant for decoders trained without them has none."""
    from napari_histosam.models.parts import read_parts
    from napari_histosam.models.wsi_sam.load import network

    card = registry.get("wsi-sam")
    parts = read_parts(card, wsi_files, ["a", "b", "c"])
    plain, bare = (network(parts, lambda _text: None, biases=b) for b in (True, False))
    stage = [net.image_encoder.body.stages[1].blocks[0] for net in (plain, bare)]
    x = torch.randn(1, 14, 14, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        with_biases, without = (block(x) for block in stage)
        assert not torch.allclose(with_biases, without, atol=1e-3)
        # Loading after a forward pass takes effect, both ways.
        names = plain.image_encoder.state_dict()
        bare.image_encoder.load_state_dict(names)
        torch.testing.assert_close(bare.image_encoder.body.stages[1].blocks[0](x), with_biases)
        zeros = {k: v * 0 if k.endswith("attention_biases") else v for k, v in names.items()}
        plain.image_encoder.load_state_dict(zeros)
        torch.testing.assert_close(plain.image_encoder.body.stages[1].blocks[0](x), without)


def test_an_export_tells_what_weights_do_not(
    registry: ModelRegistry, wsi_files: list[Path], tmp_path: Path
) -> None:
    """Both files go into a new folder; imported again they make the model that they were."""
    from dataclasses import replace

    from napari_histosam.models.catalog import write_card
    from napari_histosam.models.parts import SETTINGS

    card = registry.import_files(wsi_files, "my-ducts")
    other = replace(card, variant="vit_t-no-attention-biases", mpp=0.5)
    write_card(other, registry.folder / "my-ducts.json")
    out = tmp_path / "out"
    out.mkdir()  # an empty one will do
    made = registry.export("my-ducts", out)
    assert made == [out / "net_high.pth", out / "net_low.pth"]
    for path, source in zip(made, wsi_files[1:], strict=True):
        found, wanted = read_checkpoint(path), read_checkpoint(source)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in found.items())
    again = registry.import_files([wsi_files[0], *made], "again")
    assert (again.variant, again.mpp) == (other.variant, 0.5)
    loaded = [registry.load(name, "cpu").net.image_encoder for name in ("my-ducts", "again")]
    ours, theirs = (encoder.state_dict() for encoder in loaded)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    biases = [name for name in ours if name.endswith(".attention_biases")]
    assert biases
    assert not any(theirs[name].any() for name in biases)
    # They never go to the place of the published ones, which are asked with other windows.
    taken = registry.import_files(made)
    assert (taken.name.startswith("wsi-sam-"), taken.mpp) == (True, 0.5)
    assert not (registry.folder / "net_high.pth").exists()

    assert "holds something already" in refused(registry.export, "my-ducts", out)
    assert "name a folder" in refused(registry.export, "my-ducts", tmp_path / "x.pth")
    assert "is a folder" in refused(registry.export, "histosam-small", tmp_path)
    for odd in ("{", '{"mpp": 0}', '{"window_px": 1.5}', '{"name": "x"}', '{"variant": 3}', "[]"):
        save_decoder(read_checkpoint(made[0]), "high", tmp_path / "a_high.pth", 0, {SETTINGS: odd})
        assert "says of its model" in refused(
            registry.import_files, [tmp_path / "a_high.pth", made[1], wsi_files[0]], "odd"
        )


def test_an_export_into_a_folder_is_whole_or_not_there(
    registry: ModelRegistry, wsi_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from napari_histosam.errors import HistosamError
    from napari_histosam.models import files

    registry.import_files(wsi_files, "my-ducts")
    fsync, left = files.os.fsync, [1]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(HistosamError, match="The disk is full"):
        registry.export("my-ducts", tmp_path / "out")
    assert left[0] < 0
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
