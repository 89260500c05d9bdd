"""Deterministic weights and images, and the models that several tests here share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.registry import ModelRegistry


def make_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random weights of sensible size for every name, the same in every run."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=torch.long)
            continue
        x = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            x = 1 + 0.1 * x.abs()
        elif len(shape) >= 2:
            x = x / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x = 0.1 * x
        state[name] = x
    return state


def make_image(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A pink ground with dark blue blobs and a little noise."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    dark = np.zeros((height, width), np.float32)
    for _ in range(30):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        r = rng.uniform(0.02, 0.05) * max(height, width)
        dark = np.maximum(dark, 0.5 - 0.5 * np.tanh((np.hypot(xx - x, yy - y) - r) / 2))
    ground, nucleus = np.array([230, 185, 210]), np.array([85, 60, 135])
    rgb = ground + (nucleus - ground) * dark[..., None] + rng.normal(0, 3, (height, width, 1))
    return rgb.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_weights() -> Callable[[dict[str, tuple[int, ...]], int], dict[str, Tensor]]:
    return make_state


@pytest.fixture(scope="session")
def he_image() -> Callable[[int, int, int], NDArray[np.uint8]]:
    return make_image


@pytest.fixture(scope="session")
def sam_shapes() -> Callable[[str], dict[str, tuple[int, ...]]]:
    """The published names and shapes of a SAM variant."""
    from napari_histosam.models.sam.build import build_sam, published_names

    def shapes(variant: str) -> dict[str, tuple[int, ...]]:
        sam = build_sam(variant)
        own = sam.state_dict()
        return {name: tuple(own[ours].shape) for name, ours in published_names(sam).items()}

    return shapes


@pytest.fixture(scope="session")
def mobile_file(
    tmp_path_factory: pytest.TempPathFactory, sam_shapes: Callable[[str], dict]
) -> Path:
    """A file like mobile_sam.pt: bare state dict, upstream's names."""
    import torch

    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(make_state(sam_shapes("vit_t"), 5), path)
    return path


@pytest.fixture(scope="session")
def wsi_files(tmp_path_factory: pytest.TempPathFactory, mobile_file: Path) -> list[Path]:
    """WSI-SAM's three files; those of the decoders as upstream writes them."""
    import torch

    from napari_histosam.models.wsi_sam.decoder import TokenDecoder

    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in TokenDecoder().state_dict().items()}
    folder = tmp_path_factory.mktemp("wsi_sam")
    paths = [mobile_file]
    for seed, name in ((6, "net_high.pth"), (7, "net_low.pth")):
        kept = {"model": make_state(shapes, seed), "optimizer": {"state": {}}, "epoch": 19}
        torch.save(kept, folder / name)
        paths.append(folder / name)
    return paths


@pytest.fixture(scope="session")
def short_vit() -> Callable[[pytest.MonkeyPatch], None]:
    """Have SAM's ViT-B two blocks, one of each kind, while a patch is in force."""
    from napari_histosam.models.sam import build

    def shorten(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(build._VIT, "vit_b", (768, 2, 12, (1,)))

    return shorten


@pytest.fixture(scope="session")
def i_medsam_files(
    tmp_path_factory: pytest.TempPathFactory,
    sam_shapes: Callable[[str], dict],
    short_vit: Callable,
) -> list[Path]:
    """I-MedSAM's two files, for a ViT of two blocks; the checkpoint as upstream's best one."""
    import torch

    from napari_histosam.models.i_medsam.network import IMedSam, published_names

    folder = tmp_path_factory.mktemp("i_medsam")
    paths = [folder / "sam_vit_b_01ec64.pth", folder / "model_best_DSC_0.91490_HD_11.59_ep_7.pth"]
    with pytest.MonkeyPatch.context() as patch:
        short_vit(patch)
        torch.save(make_state(sam_shapes("vit_b"), 8), paths[0])
        with torch.device("meta"):
            net = IMedSam(384)
        own = net.state_dict()
        shapes = {name: tuple(own[ours].shape) for name, ours in published_names(net).items()}
    kept = {
        "model": {
            name: torch.nn.Parameter(value) if name.startswith("w_") else value
            for name, value in make_state(shapes, 9).items()
        },
        "optimizer": {"state": {}},
        "epoch": 7,
        "metrics": [{"epoch": 7, "dsc": np.float64(0.9149), "hd": np.float64(11.59)}],
    }
    torch.save(kept, paths[1])
    return paths


@pytest.fixture(scope="session")
def des_sam_file(tmp_path_factory: pytest.TempPathFactory, mobile_file: Path) -> Path:
    """An untrained DES-SAM around MobileSAM's encoder, under upstream's names."""
    import torch

    from napari_histosam.models.checkpoint import read_checkpoint
    from napari_histosam.models.des_sam.load import fresh

    path = tmp_path_factory.mktemp("des_sam") / "des_sam.pth"
    torch.save({"state_dict": fresh(read_checkpoint(mobile_file))}, path)
    return path


@pytest.fixture(scope="session")
def mmengine_file() -> Callable[[Path, dict[str, Tensor]], None]:
    """Write weights as mmengine does, with objects of its own, which are not here when read."""
    import sys
    import types

    import torch

    def mean(buffer: object) -> float:
        return 0.0

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(4.0)
            self.methods = {"mean": HistoryBuffer.mean, "set": {1, 2}, "last": np.float64(0.5)}

    HistoryBuffer.mean = mean  # type: ignore[attr-defined]
    name = "mmengine.logging.history_buffer"
    HistoryBuffer.__module__ = mean.__module__ = name
    HistoryBuffer.__qualname__, mean.__qualname__ = "HistoryBuffer", "HistoryBuffer.mean"

    def write(path: Path, state: dict[str, Tensor]) -> None:
        made = {part: types.ModuleType(part) for part in ("mmengine", "mmengine.logging", name)}
        made[name].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            for part, module in made.items():
                patch.setitem(sys.modules, part, module)
            hub = {"log_scalars": {"train/loss": HistoryBuffer()}, "resumed_keys": {}}
            optimiser = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []}
            kept = {"meta": {"epoch": 50, "seed": np.int64(3)}, "state_dict": state}
            torch.save({**kept, "message_hub": hub, "optimizer": optimiser}, path)
        assert "mmengine" not in sys.modules

    return write


@pytest.fixture(scope="session")
def session_registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    from napari_histosam.models.registry import ModelRegistry

    return ModelRegistry(tmp_path_factory.mktemp("home"), offline_dirs=[])


@pytest.fixture
def registry(histosam_home: Path) -> ModelRegistry:
    from napari_histosam.models.registry import ModelRegistry

    return ModelRegistry(offline_dirs=[])
