"""The registry: cards, names, where weights lie, imports, licences."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.home import shipped
from napari_histosam.models.cards import ModelCard, WeightFile
from napari_histosam.models.catalog import card_from_dict, card_to_dict, read_card, write_card
from napari_histosam.models.files import HashMemory, atomic_file, copy_atomic
from napari_histosam.models.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [
    "classical",
    "medsam",
    "mobile-sam",
    "patho-sam-vit-b",
    "patho-sam-vit-h",
    "patho-sam-vit-l",
    "sam-vit-b",
    "sam-vit-h",
    "sam-vit-l",
]


def tiny_card(**changes: object) -> ModelCard:
    fields: dict = {
        "name": "small",
        "decoder": "sam",
        "title": "A test",
        "licence": "CC-BY-NC-4.0",
        "prompts": ("point",),
        "variant": "vit_t",
        "files": (
            WeightFile("small.pt", None, 5, f"sha256:{hashlib.sha256(b'12345').hexdigest()}"),
        ),
    }
    return ModelCard(**{**fields, **changes})


def test_shipped_cards(registry: ModelRegistry) -> None:
    assert set(NAMES) <= set(registry.cards())
    for path in shipped("weights").glob("*.json"):
        card = read_card(path)
        assert path.stem == card.name
        assert card_from_dict(json.loads(json.dumps(card_to_dict(card)))) == card
        assert card.licence
        if card.decoder == "sam":
            assert card.variant in ("vit_b", "vit_l", "vit_h", "vit_t")
            assert card.window_px == 1024


def test_sam_is_another_name_of_vit_b(registry: ModelRegistry) -> None:
    assert registry.get("sam").name == "sam-vit-b"


def test_unknown_names_list_the_known_ones(registry: ModelRegistry) -> None:
    with pytest.raises(InputError, match=r"classical, .*sam-vit-b"):
        registry.get("nothing")


def test_rows_for_the_list(registry: ModelRegistry) -> None:
    rows = {row["name"]: row for row in registry.describe()}
    json.dumps(list(rows.values()))
    for row in rows.values():
        assert {"name", "decoder", "ready", "licence", "mpp", "prompts", "bytes"} <= set(row)
    assert rows["classical"]["ready"] is True
    assert rows["classical"]["bytes"] == 0
    assert rows["sam-vit-b"]["ready"] is False
    assert rows["sam-vit-b"]["bytes"] == 375_042_383
    assert rows["patho-sam-vit-b"]["mpp"] == 0.25
    assert rows["patho-sam-vit-b"]["bytes"] is None


def test_missing_weights_say_how_to_get_them(registry: ModelRegistry) -> None:
    with pytest.raises(InputError, match="histosam models download sam-vit-b"):
        registry.load("sam")
    with pytest.raises(InputError, match=r"medsam_vit_b\.pth .*histosam models import"):
        registry.load("medsam")
    with pytest.raises(InputError, match="bowang-lab"):
        registry.download("medsam")


def test_weights_are_found_in_home_then_offline_folders(
    histosam_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    for folder in (site, other):
        folder.mkdir()
    write_card(tiny_card(), site / "small.json")
    monkeypatch.setenv("HISTOSAM_WEIGHTS", os.pathsep.join([str(other), str(site)]))
    registry = ModelRegistry()
    assert not registry.is_ready("small")
    (site / "small.pt").write_bytes(b"123")
    assert not registry.is_ready("small")  # cut off
    with pytest.raises(InputError, match="not whole"):
        registry.files("small")
    assert [r["status"] for r in registry.verify("small")] == ["wrong"]
    (site / "small.pt").write_bytes(b"12345")
    assert registry.files("small") == [site / "small.pt"]
    assert [r["status"] for r in registry.verify("small")] == ["ok"]
    own = histosam_home / "weights" / "small.pt"
    own.parent.mkdir()
    own.write_bytes(b"54321")
    assert registry.files("small") == [own]
    assert [r["status"] for r in registry.verify("small")] == ["wrong"]
    assert {r["status"] for r in registry.verify("sam-vit-b")} == {"missing"}


def test_a_file_that_is_not_the_published_one_is_not_loaded(registry: ModelRegistry) -> None:
    write_card(tiny_card(licence="Apache-2.0"), registry.folder / "small.json")
    (registry.folder / "small.pt").write_bytes(b"54321")
    with pytest.raises(InputError, match="its hash differs"):
        registry.load("small", "cpu")


def test_broken_cards_do_not_take_the_others_away(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.folder.mkdir(parents=True)
    bad = {
        "text.json": "hello",
        "list.json": "[]",
        "empty.json": "{}",
        "member.json": json.dumps({**card_to_dict(tiny_card()), "surprise": 1}),
        "prompt.json": json.dumps({**card_to_dict(tiny_card()), "prompts": ["telepathy"]}),
        "path.json": json.dumps({**card_to_dict(tiny_card()), "files": [{"name": "../x.pt"}]}),
        "path2.json": json.dumps({**card_to_dict(tiny_card()), "files": [{"name": "c:\\x.pt"}]}),
        "url.json": json.dumps(
            {**card_to_dict(tiny_card()), "files": [{"name": "x.pt", "url": "file:///etc/passwd"}]}
        ),
        "huge.json": " " * 200_000,
    }
    for name, text in bad.items():
        (registry.folder / name).write_text(text, "utf-8")
    assert set(registry.cards()) >= set(NAMES)
    assert "small" not in registry.cards()
    for name in bad:
        assert name in caplog.text


def test_non_commercial_licences_are_asked_for_once(
    registry: ModelRegistry, histosam_home: Path
) -> None:
    write_card(tiny_card(non_commercial=True), registry.folder / "small.json")
    assert registry.needs_consent("small")
    assert not registry.needs_consent("sam-vit-b")
    for work in (registry.load, registry.download):
        with pytest.raises(InputError, match="accept"):
            work("small")
    registry.accept_licence("small")
    assert not ModelRegistry(histosam_home).needs_consent("small")
    # Another licence is another question.
    write_card(tiny_card(non_commercial=True, licence="other"), registry.folder / "small.json")
    assert registry.needs_consent("small")


def test_import_takes_a_copy_and_it_can_be_loaded(
    registry: ModelRegistry, mobile_file: Path, he_image: Callable
) -> None:
    card = registry.import_file(mobile_file, "My Own")
    assert (card.name, card.decoder, card.variant) == ("my-own", "sam", "vit_t")
    assert registry.get("my-own") == card
    assert registry.is_ready("my-own")
    assert mobile_file.exists()
    sha = hashlib.sha256(mobile_file.read_bytes()).hexdigest()
    assert card.files[0].hash == f"sha256:{sha}"
    assert [r["status"] for r in registry.verify("my-own")] == ["ok"]
    model = registry.load("my-own", "cpu")
    assert model.weights_hash == sha
    assert model.card.name == "my-own"
    assert registry.import_file(mobile_file, "my-own") == card  # again: nothing changes
    assert registry.import_file(mobile_file) == card


def test_import_takes_weights_of_the_bundled_kind(registry: ModelRegistry, tmp_path: Path) -> None:
    import torch

    from napari_histosam.models.small.load import save_net
    from napari_histosam.models.small.network import SmallNet

    torch.manual_seed(0)
    path = tmp_path / "kidney.safetensors"
    save_net(SmallNet().state_dict(), path)
    card = registry.import_file(path)
    assert (card.name, card.decoder) == ("kidney", "histosam-small")
    bundled = registry.get("histosam-small")
    assert (card.window_px, card.object_px) == (bundled.window_px, bundled.object_px)
    assert card.licence == "none stated"
    model = registry.load("kidney", device="cpu")
    assert model.card == card
    # Some of it is not it.
    short = {k: v for k, v in SmallNet().state_dict().items() if not k.startswith("decoder.")}
    save_net(short, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match="does not fit histosam-small"):
        registry.import_file(tmp_path / "half.safetensors")


def test_import_never_takes_the_name_of_other_weights(
    registry: ModelRegistry, mobile_file: Path
) -> None:
    sha = hashlib.sha256(mobile_file.read_bytes()).hexdigest()
    for name in ("mobile-sam", "sam", "classical"):
        with pytest.raises(InputError, match="taken"):
            registry.import_file(mobile_file, name)
    # The file is called mobile_sam.pt but is not the published one.
    card = registry.import_file(mobile_file)
    assert card.name == f"mobile-sam-{sha[:8]}"
    assert registry.load(card.name, "cpu").weights_hash == sha
    with pytest.raises(InputError, match="letters or digits"):
        registry.import_file(mobile_file, "???")


def test_import_recognises_published_files(
    registry: ModelRegistry, mobile_file: Path, tmp_path: Path
) -> None:
    sha = hashlib.sha256(mobile_file.read_bytes()).hexdigest()
    size = mobile_file.stat().st_size
    known = tiny_card(files=(WeightFile("small.pt", None, size, f"sha256:{sha}"),))
    write_card(known, registry.folder / "small.json")
    assert registry.import_file(mobile_file) == known
    assert (registry.folder / "small.pt").stat().st_size == size
    # Without a published hash the file's name or the user's word counts.
    by_name = tiny_card(name="named", files=(WeightFile("own.pt"),))
    write_card(by_name, registry.folder / "named.json")
    (registry.folder / "small.json").unlink()
    (registry.folder / "small.pt").unlink()
    copy_atomic(mobile_file, tmp_path / "own.pt")
    assert registry.import_file(tmp_path / "own.pt") == by_name
    assert registry.is_ready("named")


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (["hf_token.weight"], "WSI-SAM cannot be told"),
        (["fc.weight", "fc.bias"], "fc.weight"),
        (["mask_decoder.iou_token.weight"], "does not fit the decoder of EP-SAM"),
    ],
)
def test_import_refuses_what_it_cannot_use(
    registry: ModelRegistry, tmp_path: Path, keys: list[str], word: str
) -> None:
    import torch

    path = tmp_path / "other.pth"
    torch.save({k: torch.zeros(1, 2) for k in keys}, path)
    with pytest.raises(InputError, match=word) as caught:
        registry.import_file(path)
    assert "\n" not in str(caught.value)
    assert not registry.folder.exists() or not list(registry.folder.iterdir())


def test_import_refuses_incomplete_sam(
    registry: ModelRegistry, mobile_file: Path, tmp_path: Path
) -> None:
    import torch

    state = torch.load(mobile_file, weights_only=True)
    del state["image_encoder.neck.0.weight"]
    path = tmp_path / "part.pt"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"missing image_encoder\.neck\.0\.weight"):
        registry.import_file(path)
    with pytest.raises(InputError, match="is no file"):
        registry.import_file(tmp_path / "none.pt")


def test_own_files_load_by_family_name_whatever_their_size(
    registry: ModelRegistry, mobile_file: Path
) -> None:
    said: list[str] = []
    model = registry.load("sam", "cpu", [mobile_file], said.append)
    assert model.card.name == "mobile-sam"
    assert said == ["Running on cpu, as asked"]
    with pytest.raises(InputError, match="vit_t"):
        registry.load("sam-vit-b", "cpu", [mobile_file])
    with pytest.raises(InputError, match="one weights file"):
        registry.load("sam", "cpu", [mobile_file, mobile_file])
    with pytest.raises(InputError, match="is no file"):
        registry.load("sam", "cpu", [mobile_file.with_name("x")])
    with pytest.raises(InputError, match="Device"):
        registry.load("sam", "abacus", [mobile_file])


def test_a_decoder_of_a_later_version_is_named(registry: ModelRegistry) -> None:
    write_card(tiny_card(decoder="a-later-one", licence="x"), registry.folder / "small.json")
    with pytest.raises(InputError, match="update napari-histosam"):
        registry.load("small")


def test_hashes_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_histosam.models import files

    path = tmp_path / "w"
    path.write_bytes(b"one")
    memory = HashMemory(tmp_path / "hashes.json")
    first = memory.sha256(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    real = files.file_hash
    monkeypatch.setattr(files, "file_hash", lambda *a: pytest.fail("hashed again"))
    assert HashMemory(tmp_path / "hashes.json").sha256(path) == first
    monkeypatch.setattr(files, "file_hash", real)
    path.write_bytes(b"three")
    assert memory.sha256(path) == hashlib.sha256(b"three").hexdigest()
    (tmp_path / "hashes.json").write_text("broken")
    assert memory.sha256(path) == hashlib.sha256(b"three").hexdigest()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    for error, shown, text in (
        (RuntimeError("stop"), RuntimeError, "stop"),
        (OSError(28, "No space left on device"), HistosamError, "disk is full"),
    ):
        with pytest.raises(shown, match=text):
            fail_while_writing(path, error)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def fail_while_writing(path: Path, error: Exception) -> None:
    with atomic_file(path) as out:
        out.write(b"new")
        raise error


def test_importing_the_folder_is_light() -> None:
    code = (
        "import sys, napari_histosam.models, napari_histosam.models.registry\n"
        "heavy = {'torch', 'timm', 'cv2', 'skimage', 'pooch', 'segment_anything'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert out.stdout.strip() == "[]"


def test_classical_answers_from_the_registry(registry: ModelRegistry) -> None:
    model = registry.load("classical")
    embedding = model.encode([np.full((32, 32, 3), 180, np.uint8)])
    assert embedding.size == (32, 32)
