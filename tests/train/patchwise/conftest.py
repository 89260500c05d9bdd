"""Patches with and without a dark disc, a base to begin on, and a classifier of narrow layers."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from napari_histosam.models.ep_sam import classifier
from napari_histosam.models.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """The authors' classifier with inner layers a sixteenth as wide; and one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "resnet50", partial(resnet50, width_per_group=4))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base_folder(narrow: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder that holds ``ep-small``, untrained, on the bundled encoder."""
    home = tmp_path_factory.mktemp("base")
    registry = ModelRegistry(home, [])
    registry.begin("sam", "histosam-small", "sam-small")
    registry.begin("ep-sam", "sam-small", "ep-small")
    return registry.folder


@pytest.fixture(autouse=True)
def base(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HISTOSAM_WEIGHTS", str(base_folder))
    return "ep-small"


def disc_of(number: int) -> np.ndarray:
    """Return where the disc of patch ``number`` lies, (64, 64) bool."""
    x, y = np.random.default_rng(number).integers(16, 48, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 < 15**2


def picture_of(number: int) -> np.ndarray:
    """Return patch ``number``, (64, 64, 3) RGB: even ones have a dark disc."""
    rng = np.random.default_rng((number, 1))
    image = np.array((226, 188, 208)) + rng.normal(0, 6, (SIDE, SIDE, 1))
    if number % 2 == 0:
        inside = disc_of(number)
        image[inside] = np.array((90, 60, 140)) + rng.normal(0, 12, (inside.sum(), 1))
    return image.clip(0, 255).astype(np.uint8)


def fill_patches(folder: Path, count: int, groups: int = 4) -> Path:
    """Write a data set of so many patches; masks are there and no images at all."""
    items = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"p{number}"
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(folder / item["image"]), picture_of(number)[..., ::-1])
        (folder / item["mask"]).write_bytes(b"this is no image")
        label = "normal" if number % 2 else "tumour"
        about = {"label": label, "group": f"slide{number // 2 % groups}", "mpp": 0.5}
        items.append({**item, "mask_kind": "semantic", **about})
    (folder / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    return folder


@pytest.fixture(scope="session")
def make_patches() -> Callable[..., Path]:
    return fill_patches


@pytest.fixture(scope="session")
def picture() -> Callable[[int], np.ndarray]:
    return picture_of


@pytest.fixture(scope="session")
def disc() -> Callable[[int], np.ndarray]:
    return disc_of
