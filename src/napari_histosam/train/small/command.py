"""The command that trains the bundled model and writes its shipped file."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_histosam.train.small.loop import Recipe, Training
from napari_histosam.train.small.pool import Source, read_pool
from napari_histosam.train.small.ship import ship

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.train.small.pool import Picture

_log = logging.getLogger(__name__)

# What is trained on and, by groups held apart, what is validated with. Never dev_val.
_TRAIN = (
    ("training_pool", "nuclei", "pool_train"),
    ("training_pool", "nuclei_fluorescence", "pool_train"),
    ("training_pool", "glands", "pool_train"),
    ("data", "nuclei", "dev_train"),
    ("data", "glands", "dev_train"),
)
_HELD_OUT = (
    ("training_pool", "nuclei", "pool_val"),
    ("training_pool", "glands", "pool_val"),
    ("training_pool", "nuclei_fluorescence", "pool_val"),
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m napari_histosam.train.small")
    parser.add_argument(
        "shared", type=Path, help="folder that holds training_pool/ and data/ with splits.json"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes there")
    parser.add_argument("--until", type=int, help="stop after this step (the schedule stays)")
    parser.add_argument("--ship", type=Path, help="weights folder to put the network in at the end")
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="SOURCE",
        help="see no image whose name begins so (glom, tnbc), or none of a folder (data); repeat",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as torch chooses)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches")
    for field in fields(Recipe):
        kind = _KINDS[str(field.type)]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    without = options.leave_out
    seen = [part for part in _TRAIN if part[0] not in without]
    training = Training(
        options.out,
        recipe,
        _without(read_pool(_source(options.shared, *part) for part in seen), without),
        _without(read_pool(_source(options.shared, *part) for part in _HELD_OUT), without),
        options.device,
        options.workers,
    )
    training.run(options.until)
    if options.ship is not None:
        _log.info("%s", ship(options.out, options.ship))


def _source(shared: Path, root: str, set_name: str, split: str) -> Source:
    return Source(shared / root, set_name, split)


def _without(pictures: list[Picture], left_out: Sequence[str]) -> list[Picture]:
    """Return the pictures of all sources but some."""
    return [one for one in pictures if not one.kind.startswith(tuple(left_out))]


def _flag(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


_KINDS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": _flag, "str": str}
