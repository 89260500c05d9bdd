"""Puts a trained network into the folder of shipped weights, and its size and hash on its card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_histosam.models.cards import WeightFile
from napari_histosam.models.catalog import read_card, write_card
from napari_histosam.models.files import file_hash
from napari_histosam.models.small.load import save_net

if TYPE_CHECKING:
    from pathlib import Path

NAME = "histosam-small"


def ship(run: Path, weights: Path) -> Path:
    """Write the averaged weights of a training run as the shipped file; return its path.

    Parameters
    ----------
    run : Path
        Folder of the run.
    weights : Path
        Folder with the card ``histosam-small.json``.
    """
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["averaged"]
    target = weights / f"{NAME}.safetensors"
    save_net(state, target)
    card = read_card(weights / f"{NAME}.json")
    entry = WeightFile(target.name, bytes=target.stat().st_size, hash=f"sha256:{file_hash(target)}")
    write_card(replace(card, files=(entry,)), weights / f"{NAME}.json")
    return target
