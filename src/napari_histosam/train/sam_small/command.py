"""The command that trains a SAM behind the bundled encoder and writes it as a SAM checkpoint."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields
from pathlib import Path

import torch

from napari_histosam import home
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.files import write_bytes_atomic
from napari_histosam.models.sam.beginning import fresh_sam
from napari_histosam.models.sam.build import BUNDLED, load_sam
from napari_histosam.train.sam_small.loop import Recipe, Training
from napari_histosam.train.small.pool import Source, read_pool

_log = logging.getLogger(__name__)
_SETS = ("nuclei", "nuclei_fluorescence", "glands")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m napari_histosam.train.sam_small")
    parser.add_argument(
        "pool", type=Path, help="folder with splits.json (pool_train, pool_val) and the sets"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes there")
    parser.add_argument("--until", type=int, help="stop after this step (the schedule stays)")
    parser.add_argument("--ship", type=Path, help="safetensors file to write at the end, float16")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as torch chooses)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches")
    for field in fields(Recipe):
        kind = {"int": int, "float": float, "str": str}.get(str(field.type), _flag)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    if recipe.start:
        weights = read_checkpoint(Path(recipe.start))
    else:
        small = read_checkpoint(home.shipped("weights") / "histosam-small.safetensors")
        weights = fresh_sam(small, recipe.seed)
    sam = load_sam(weights, recipe.start or "the fresh SAM", BUNDLED)
    training = Training(
        options.out,
        recipe,
        sam,
        read_pool(Source(options.pool, name, "pool_train") for name in _SETS),
        read_pool(Source(options.pool, name, "pool_val") for name in _SETS),
        options.workers,
    )
    training.run(options.until)
    if options.ship is not None:
        from safetensors.torch import save

        half = {
            name: (v.half() if v.is_floating_point() else v).contiguous()
            for name, v in training.state().items()
        }
        write_bytes_atomic(options.ship, save(half))
        _log.info("wrote %s", options.ship)


def _flag(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")
