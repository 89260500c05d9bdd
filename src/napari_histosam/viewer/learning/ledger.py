"""Keeps what trainings cost on this machine, so that each kind is measured once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.home import home
from napari_histosam.models.files import write_bytes_atomic
from napari_histosam.train.finetune.costs import Costs

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.models import ModelRegistry

# Goes up when costs are measured otherwise, so that none are mixed.
_VERSION = 1


def key_of(registry: ModelRegistry, model: str, method: str, threads: int | None) -> str:
    """Return what a measurement is kept under: model, its weights, method, and the machine.

    Not for the window's thread: it may have to read the whole weights file and to import torch.

    Raises
    ------
    InputError
        If the model's weights are not here.
    """
    from napari_histosam.models.devices import choose_device
    from napari_histosam.models.trained import base_hash

    parts = [_VERSION, model, method, base_hash(registry, model), choose_device().message]
    parts += [threads, platform.node()]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"{model}-{method}-{digest}"


def recall(key: str) -> Costs | None:
    """Return the costs that are kept under a key; None if there are none that can be read."""
    try:
        return Costs.read(json.loads(_path(key).read_text("utf-8")))
    except (OSError, ValueError, InputError):
        return None


def keep(key: str, costs: Costs) -> None:
    """Keep costs; where that is not possible they are measured again another time."""
    with contextlib.suppress(HistosamError, OSError):
        write_bytes_atomic(_path(key), json.dumps(costs.record(), indent=1).encode())


def _path(key: str) -> Path:
    return home() / "costs" / f"{key}.json"
