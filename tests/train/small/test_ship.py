"""Shipping: a float16 file, a card that fits it, and a model that loads from both."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors import safe_open

from napari_histosam.models.cards import ModelCard, WeightFile
from napari_histosam.models.catalog import read_card, write_card
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.small.network import SmallNet
from napari_histosam.train.small.ship import NAME, ship

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CARD = ModelCard(
    NAME, NAME, "A test", "BSD-3-Clause", ("point", "negative", "box"), 256,
    files=(WeightFile(f"{NAME}.safetensors", None, 5, "sha256:0"),),
    note="Of a test.", object_px=(36, 300),
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run whose averaged weights differ from the others."""
    torch.manual_seed(4)
    net, averaged = SmallNet(), SmallNet()
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save(
        {"step": 9, "net": net.state_dict(), "averaged": averaged.state_dict()},
        folder / "state.pt",
    )
    return folder


@pytest.fixture
def folder(histosam_home: Path) -> Path:
    """The user's weights folder, with a card whose file is another one."""
    made = histosam_home / "weights"
    made.mkdir(parents=True)
    write_card(CARD, made / f"{NAME}.json")
    return made


def test_the_file_holds_the_averaged_weights_as_halves(run: Path, folder: Path) -> None:
    path = ship(run, folder)
    assert path == folder / f"{NAME}.safetensors"
    wanted = torch.load(run / "state.pt", weights_only=True)["averaged"]
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(wanted)
        for name, value in wanted.items():
            found = file.get_tensor(name)
            if value.is_floating_point():
                assert found.dtype == torch.float16
                assert torch.equal(found, value.half())
            else:
                assert found.dtype == value.dtype
                assert torch.equal(found, value)
    assert {p.name for p in folder.iterdir()} == {f"{NAME}.json", f"{NAME}.safetensors"}


def test_the_card_fits_the_file_and_keeps_the_rest(run: Path, folder: Path) -> None:
    path = ship(run, folder)
    card = read_card(folder / f"{NAME}.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (entry,) = card.files
    assert entry == WeightFile(path.name, None, path.stat().st_size, f"sha256:{digest}")
    assert (card.title, card.note, card.object_px) == ("A test", "Of a test.", (36, 300))
    (row,) = ModelRegistry().verify(NAME)
    assert (row["status"], row["path"]) == ("ok", str(path))


def test_the_shipped_model_loads_and_answers(run: Path, folder: Path, paint: Callable) -> None:
    path = ship(run, folder)
    model = ModelRegistry().load(NAME, device="cpu")
    assert model.weights_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.card == read_card(folder / f"{NAME}.json")
    image, _ = paint(128, 128, (60, 60, 20))
    embedding = model.encode([image])
    (found,) = model.decode(embedding, [ObjectPrompts(box=np.array([38.0, 38, 82, 82]))])
    assert found.masks.shape[1:] == (128, 128)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(Exception, match="is not the published"):
        ModelRegistry().load(NAME, device="cpu")


def test_shipping_again_replaces_both(run: Path, folder: Path) -> None:
    first = ship(run, folder).read_bytes()
    state = torch.load(run / "state.pt", weights_only=True)
    torch.save({**state, "averaged": state["net"]}, run / "state.pt")
    second = ship(run, folder).read_bytes()
    assert first != second
    assert ModelRegistry().verify(NAME)[0]["status"] == "ok"
