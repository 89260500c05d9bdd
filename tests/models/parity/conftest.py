"""Where the reference numbers lie, and the weights and images that belong to them."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

DEFAULT = Path(__file__).resolve().parents[3].parent / "shared" / "parity"


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    folder = Path(os.environ.get("HISTOSAM_PARITY_DIR") or DEFAULT)
    if not (folder / "det_init.py").is_file():
        pytest.skip(f"no parity data in {folder} (HISTOSAM_PARITY_DIR names the folder)")
    return folder


@pytest.fixture(scope="session")
def det_init(parity_dir: Path) -> ModuleType:
    """The module that makes the deterministic weights and images."""
    spec = importlib.util.spec_from_file_location("det_init", parity_dir / "det_init.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden(parity_dir: Path) -> Callable[[str, str], dict[str, np.ndarray]]:
    """Arrays of one folder whose names begin with a run's name; skips if there are none."""

    def arrays(folder: str, run: str) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for path in sorted((parity_dir / folder).glob("*.npz")):
            with np.load(path, allow_pickle=False) as data:
                found.update({k: data[k] for k in data.files if k.startswith(run + "_")})
        if not found:
            pytest.skip(f"the arrays {run}_* of {folder} are not in {parity_dir}")
        return found

    return arrays


@pytest.fixture(scope="session")
def checkpoint(
    parity_dir: Path, det_init: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Write a file in upstream's format from keys.json."""
    import torch

    written: dict[tuple[str, str, int, str], Path] = {}

    def write(
        folder: str,
        component: str,
        seed: int,
        name: str,
        *,
        wrapped: bool = False,
        prefixed: bool = True,
    ) -> Path:
        """Write it bare, or as ``{"model", "optimizer", "epoch"}``.

        ``prefixed`` tells whether the weights were drawn for names with the component in front.
        """
        key = (folder, component, seed, name)
        if key not in written:
            rows = json.loads((parity_dir / folder / "keys.json").read_text())[component]
            start = f"{component}." if prefixed else ""
            named = [(f"{start}{k}", shape, dtype) for k, shape, dtype in rows]
            state = det_init.state_dict(named, seed)
            path = tmp_path_factory.mktemp(folder) / name
            bare = {
                k.removeprefix(start): torch.from_numpy(np.asarray(v)) for k, v in state.items()
            }
            optimiser = {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
            kept = {"model": bare, "optimizer": optimiser, "epoch": 19} if wrapped else bare
            torch.save(kept, path)
            written[key] = path
        return written[key]

    return write
