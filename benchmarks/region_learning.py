"""What a model of tumour areas learns from how many outlined images.

    python benchmarks/region_learning.py SHARED --model NAME --images 5 20 all --out DIR

NAME is an untrained or trained model that finds regions (``histosam models new sam-lung --base
SAM`` makes one). So many images of ``SHARED/training_pool/tumour_patches`` and of ``dev_train`` of
``SHARED/data/tumour_patches``, drawn by the seed, are learned from as one class (a fifth of them,
as whole groups, chooses the best epoch), in about as many steps whatever their number. Then
``histosam evaluate`` looks at ``dev_val``, which shares no group with them. For comparison there is
what the model said before, and what holding everything for tumour would give. All runs stay under
``DIR``; those that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from detector_learning import histosam
from learning_curve import ROOTS, _group, _split, listed

from napari_histosam.train.area_maps import area_map
from napari_histosam.train.evaluation.areas import AreaFigures
from napari_histosam.train.labelled import entries

SET, CLASS = "tumour_patches", "Tumour"
FIGURES = ("area_dice", "area_iou", "pixel_auc")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", nargs="+", default=["5", "20", "all"])
    parser.add_argument("--method", default="decoder")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for images in options.images:
        data = options.out / f"data-{images}-{options.seed}"
        taught = make_data(options.shared, data, images, options.seed)
        if not rows:
            rows.append(("everything is tumour", 0, everything(data)))
            rows.append(("untrained", 0, asked(options, data, options.model)))
        name = f"{options.model}-{images}-{options.seed}"
        run = options.out / name
        if not (run / "result.json").is_file():
            epochs = max(1, round(options.steps / -(-taught // options.batch)))
            done = histosam(
                *("train", str(data), "--model", options.model, "--method", options.method),
                *("--out", str(run), "--name", name, "--one-class", CLASS),
                *("--epochs", str(epochs), "--patience", str(epochs)),
                *("--batch", str(options.batch), "--seed", str(options.seed)),
                *("--threads", str(options.threads), "--accelerator", "cpu"),
            )
            (run / "result.json").write_text(json.dumps(done), "utf-8")
        found = asked(options, data, name)
        (options.out / f"{name}.json").write_text(json.dumps(found), "utf-8")
        rows.append((f"trained on {images}", taught, found))
    print(table(rows))


def asked(options: argparse.Namespace, data: Path, name: str) -> dict[str, Any]:
    """Return what an evaluation says of a model."""
    found = histosam(
        *("evaluate", str(data), "--split", "test", "--model", name),
        *("--threads", str(options.threads), "--device", "cpu"),
    )
    row: dict[str, Any] = found["results"][0]
    return row


def everything(data: Path) -> dict[str, Any]:
    """Return the figures of an answer that is tumour everywhere."""
    by_source: dict[str, AreaFigures] = {}
    for entry in entries(data, ["test"], areas=True):
        _, areas = area_map(entry, (CLASS,))
        part = by_source.setdefault(entry.source, AreaFigures(1))
        part.add(entry.name, np.ones((1, *areas.shape), np.float32), areas)

    def told(one: AreaFigures) -> dict[str, Any]:
        return {"area_dice": one.dice(), "area_iou": one.iou(), "pixel_auc": one.auc()}

    parts = {name: told(one) for name, one in by_source.items()}
    return {**told(AreaFigures.of(list(by_source.values()))), "areas_by_source": parts}


def make_data(shared: Path, target: Path, images: str, seed: int) -> int:
    """Write the index of what is learned from and asked about; return how many images teach."""
    rng = np.random.default_rng((seed, 59))
    splits = {root: listed(shared / root, SET) for root in ROOTS}
    items = [item for root in ROOTS for item in indexed(shared / root / SET)]
    test = [item for item in items if item["id"] in splits["data"]["dev_val"]]
    kept_aside = {_group(item) for item in test}
    names = splits["data"]["dev_train"].union(*splits["training_pool"].values())
    pool = [i for i in items if i["id"] in names and _group(i) not in kept_aside]
    count = len(pool) if images == "all" else min(int(images), len(pool))
    train, val = _split([pool[i] for i in rng.permutation(len(pool))[:count]], rng)
    parts = {"train": train, "val": val, "test": test}
    target.mkdir(parents=True, exist_ok=True)
    for root in ROOTS:
        link = target / root
        if not link.exists():
            link.symlink_to((shared / root / SET).resolve(), target_is_directory=True)
    kept = {"items": [item for part in parts.values() for item in part]}
    (target / "index.json").write_text(json.dumps(kept, sort_keys=True), "utf-8")
    named = {name: [item["id"] for item in part] for name, part in parts.items()}
    (target / "splits.json").write_text(json.dumps({"sets": {target.name: named}}), "utf-8")
    return len(train)


def indexed(folder: Path) -> list[dict[str, Any]]:
    """Return the items of a set, their files relative to what links to it."""
    items = json.loads((folder / "index.json").read_text("utf-8"))["items"]
    root = folder.parent.name
    return [
        {**item, "image": f"{root}/{item['image']}", "mask": f"{root}/{item['mask']}"}
        for item in items
    ]


def table(rows: list[tuple[str, int, dict[str, Any]]]) -> str:
    """Return the rows as Markdown: all images, then those of each data set."""
    sources = list(rows[0][2]["areas_by_source"])
    head = ["model", "taught by", *(f"{where}: Dice, IoU, AUC" for where in ("all", *sources))]
    out = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head))]
    for name, taught, found in rows:
        parts = [found, *(found["areas_by_source"][source] for source in sources)]
        cells = [", ".join(_text(part[key]) for key in FIGURES) for part in parts]
        out.append("| " + " | ".join([name, str(taught), *cells]) + " |")
    return "\n".join(out)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
