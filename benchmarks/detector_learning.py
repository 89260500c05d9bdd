"""What a nucleus finder learns from boxes alone, beside outlines and the classical baseline.

    python benchmarks/detector_learning.py SHARED --model NAME --out DIR [--epochs N] [--images N]

NAME is an untrained or trained model that finds objects (``histosam models new des-sam --base SAM``
makes one). It learns from the images of ``SHARED/data/nuclei`` that are for training, a fifth of
their groups choosing the best epoch: once from boxes alone (the boxes are written beside the images
first, and ``histosam train --boxes-only`` reads no mask), once from outlines. Then ``histosam
evaluate`` finds all nuclei of ``dev_val`` by each, by the base, and by ``classical``. All runs stay
under ``DIR``; those that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from learning_curve import _split, indexed, listed
from scipy import ndimage

from napari_histosam.train.labelled import entries

HOW = {"boxes": ("--boxes-only",), "outlines": ()}
FIGURES = ("ap50", "aji", "pq", "dice")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=int, default=0, help="0 for all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--how", nargs="+", choices=list(HOW), default=list(HOW))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    data = options.out / f"nuclei-{options.images or 'all'}-{options.seed}"
    make_data(options.shared, data, options.images, options.seed)
    names = [options.model, "classical"]
    for how in options.how:
        names.append(f"{options.model}-{how}-{options.images or 'all'}-{options.seed}")
        run = options.out / names[-1]
        if (run / "result.json").is_file():
            continue
        rate = () if options.rate is None else ("--rate", str(options.rate))
        done = histosam(
            *("train", str(data), "--model", options.model, "--out", str(run), *rate),
            *("--name", names[-1], "--epochs", str(options.epochs), "--seed", str(options.seed)),
            *("--batch", "1", "--threads", str(options.threads), "--accelerator", "cpu"),
            *HOW[how],
        )
        (run / "result.json").write_text(json.dumps(done), "utf-8")
    rows = []
    for name in names:
        found = histosam(
            *("evaluate", str(data), "--split", "test", "--model", name),
            *("--threads", str(options.threads)),
        )
        rows += found["results"]
        (options.out / f"{name}.json").write_text(json.dumps(found), "utf-8")
    print("| model | AP50 | AJI | PQ | Dice |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['model']} | " + " | ".join(f"{row[key]:.3f}" for key in FIGURES) + " |")


def histosam(*arguments: str) -> dict[str, Any]:
    """Run a command of the program and return what it prints."""
    command = [sys.executable, "-m", "napari_histosam", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=dict(os.environ), check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}; see above.")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_data(shared: Path, target: Path, images: int, seed: int) -> None:
    """Write the index of what is learned from and looked at, with the boxes of all nuclei."""
    rng = np.random.default_rng((seed, 47))
    splits = listed(shared / "data", "nuclei")
    items = indexed(shared / "data" / "nuclei")
    pool = [item for item in items if item["id"] in splits["dev_train"]]
    drawn = [pool[i] for i in rng.permutation(len(pool))[: images or len(pool)]]
    train, val = _split(drawn, rng)
    parts = {
        "train": train,
        "val": val,
        "test": [item for item in items if item["id"] in splits["dev_val"]],
    }
    target.mkdir(parents=True, exist_ok=True)
    link = target / "data"
    if not link.exists():
        link.symlink_to((shared / "data" / "nuclei").resolve(), target_is_directory=True)
    both = ["dev_train", "dev_val"]
    known = {entry.name: entry for entry in entries(shared / "data" / "nuclei", both)}
    for item in [item for part in parts.values() for item in part]:
        _, labels = known[item["id"]].read()
        item["boxes"] = [
            {"box": [x.start, y.start, x.stop, y.stop], "class": "Nucleus", "label": number}
            for number, place in enumerate(ndimage.find_objects(labels.astype(int)), 1)
            if place is not None
            for y, x in [place]
        ]
    kept = {"items": [item for part in parts.values() for item in part]}
    (target / "index.json").write_text(json.dumps(kept, sort_keys=True), "utf-8")
    named = {name: [item["id"] for item in part] for name, part in parts.items()}
    (target / "splits.json").write_text(json.dumps({"sets": {target.name: named}}), "utf-8")


if __name__ == "__main__":
    main()
