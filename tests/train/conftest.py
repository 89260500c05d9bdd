"""Pictures with discs as objects, and folders of labelled images in the layout that is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NUCLEUS, GROUND = (90, 60, 140), (226, 188, 208)


def paint_discs(
    height: int,
    width: int,
    *discs: tuple[float, float, float],
    colour: tuple[int, int, int] = NUCLEUS,
    ground: tuple[int, int, int] = GROUND,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return a plain picture with discs (x, y, radius), and their labels: 1, 2, …"""
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.full((height, width, 3), ground, np.uint8)
    labels = np.zeros((height, width), np.uint16)
    for number, (x, y, radius) in enumerate(discs, 1):
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        image[inside] = colour
        labels[inside] = number
    return image, labels


def fill_set(
    folder: Path,
    pictures: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    **members: object,
) -> list[dict[str, Any]]:
    """Write images/, masks/ and index.json; ``members`` go into every item. Return the items."""
    items = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, (image, labels) in pictures.items():
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(folder / item["image"]), image[..., ::-1])
        cv2.imwrite(str(folder / item["mask"]), labels)
        items.append({**item, "mask_kind": "instance", "mpp": None, **members})
    (folder / "index.json").write_text(json.dumps({"set": folder.name, "items": items}), "utf-8")
    return items


def fill_splits(root: Path, sets: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "splits.json").write_text(json.dumps({"sets": sets}), "utf-8")


@pytest.fixture(scope="session")
def paint() -> Callable[..., tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    return paint_discs


@pytest.fixture(scope="session")
def write_set() -> Callable[..., list[dict[str, Any]]]:
    return fill_set


@pytest.fixture(scope="session")
def write_splits() -> Callable[..., None]:
    return fill_splits
