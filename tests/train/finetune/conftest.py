"""A small labelled folder, and runs on it that take a few seconds."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.models import files
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trained import base_hash
from napari_histosam.train.finetune import launch, settling, validation
from napari_histosam.train.finetune.plan import Plan
from napari_histosam.train.finetune.splits import divide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DISCS = (
    ((24, 30, 11), (70, 40, 13)),
    ((30, 60, 14), (75, 25, 9)),
    ((50, 50, 16), (15, 15, 8)),
    ((60, 30, 12), (25, 70, 10)),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path, paint: Callable, write_set: Callable, write_splits: Callable) -> Path:
    """Three images to train on, of two groups, and one held out."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    pictures = {}
    for number, discs in enumerate(DISCS):
        image, labels = paint(100, 96, *discs)
        noisy = (image + rng.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)
        pictures[f"own_{number}"] = noisy, labels
    write_set(root / "nuclei", pictures, classes={"*": "nucleus"})
    write_splits(
        root, {"nuclei": {"train": ["own_0", "own_1", "own_2"], "val": ["own_3"], "test": []}}
    )
    return root


@pytest.fixture
def plan(data: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Return what makes a plan on that folder."""

    def made(out: str = "run", **more: Any) -> Plan:
        asked = {"epochs": 2, "batch": 2, "objects": 2, "accelerator": "cpu", "threads": 1}
        return Plan(data, "histosam-small", "decoder", tmp_path / out, **{**asked, **more})

    return made


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], dict[str, Any]]:
    """Return what runs a plan."""
    monkeypatch.setattr(validation, "_OBJECTS", 1)
    monkeypatch.setattr(settling, "_LOOKS", 1)

    def run(plan: Plan) -> dict[str, Any]:
        division = divide(plan)
        known = base_hash(ModelRegistry(), plan.model)
        return launch.run(plan, division, known, list(division.notes))

    return run


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return what makes the disk full for files whose names contain a part, after some of them."""

    def set_up(part: str, after: int = 0) -> None:
        mkstemp, fsync, bad, left = files.tempfile.mkstemp, os.fsync, set(), after

        def made(*given: Any, **words: Any) -> tuple[int, str]:
            nonlocal left
            handle, name = mkstemp(*given, **words)
            bad.discard(handle)
            if part in str(words.get("prefix")):
                left -= 1
                if left < 0:
                    bad.add(handle)
            return handle, name

        def full(handle: int) -> None:
            if handle in bad:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        monkeypatch.setattr(files.tempfile, "mkstemp", made)
        monkeypatch.setattr(files.os, "fsync", full)

    return set_up
