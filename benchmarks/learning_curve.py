"""How much a model gains from how many images: fine-tunes it and asks it about others.

    python benchmarks/learning_curve.py SHARED --set glands --images 8 20 all --out DIR

``SHARED/data`` holds sets of images with instance masks and their splits. So many images of
``dev_train``, drawn by the seed, are learned from (a fifth of them, as whole groups, chooses the
best epoch), and all of ``dev_val`` is asked about before and after; with ``--pool``, images of
``training_pool`` are learned from instead. With ``--source glom``, images
of ``data`` and ``training_pool`` whose names begin so are learned from, whatever their split, as
whole groups, and all other groups of that source are asked about. That needs a base which has not
seen them: ``python -m napari_histosam.train.small SHARED --leave-out glom …`` trains one, and
``histosam models import FILE`` takes it in. Every training is the command ``histosam train``; what
it needs and prints stays under ``DIR``, and runs that are there already are not done again.
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

ROOTS = ("data", "training_pool")
FIGURES = (("iou_click1", "1 click"), ("iou_click3", "3 clicks"), ("iou_box", "box"))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="sets", action="append", metavar="NAME")
    parser.add_argument("--source", help="only images whose names begin so")
    parser.add_argument("--pool", action="store_true", help="learn from training_pool, not data")
    parser.add_argument("--model", default="histosam-small")
    parser.add_argument("--method", default="decoder")
    parser.add_argument("--images", nargs="+", default=["8", "20", "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--objects", type=int, default=8, help="asked for in a window, to learn")
    parser.add_argument("--max-objects", type=int, default=12, help="asked about in an image")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for set_name in options.sets or ["glands", "nuclei"]:
        for images in options.images:
            for seed in options.seeds:
                rows.append(learned(options, set_name, images, seed))
                print(json.dumps(rows[-1]), flush=True)
    name = "-".join([options.model, options.method, *(options.sets or []), options.source or "all"])
    (options.out / f"{name}.json").write_text(json.dumps(rows, indent=1), "utf-8")
    print(table(rows))


def learned(options: argparse.Namespace, set_name: str, images: str, seed: int) -> dict[str, Any]:
    """Fine-tune on so many images, and return before and after."""
    source = options.source or "all"
    name = f"{set_name}-{source}-{images}-{seed}{'-pool' if options.pool else ''}"
    run = options.out / f"{options.model}-{options.method}-{name}"
    data = options.out / "data" / name
    learn_from = ("training_pool", "pool_train") if options.pool else ("data", "dev_train")
    taught, judged = make_data(options.shared, set_name, data, source, images, seed, learn_from)
    kept = run / "result.json"
    if not kept.is_file():
        command = [
            *(sys.executable, "-m", "napari_histosam", "train", str(data), "--json"),
            *("--model", options.model, "--method", options.method, "--out", str(run)),
            *("--seed", str(seed), "--epochs", str(options.epochs), "--accelerator", "cpu"),
            *("--objects", str(options.objects)),
            *("--max-objects", str(options.max_objects), "--threads", str(options.threads)),
        ]
        environment = {**os.environ, "HISTOSAM_HOME": str(options.out / "home")}
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
        if done.returncode:
            sys.exit(f"The training in {run} ended with {done.returncode}; see above.")
        kept.write_bytes(done.stdout)
    found = json.loads(kept.read_text("utf-8"))
    figures = found["comparison"]["figures"]
    return {
        "model": options.model,
        "method": options.method,
        "set": set_name,
        "source": source,
        "images": taught,
        "seed": seed,
        "images_asked": judged,
        "objects_asked": found["comparison"]["n_objects"],
        "message": found["message"],
        **{key: figures[key] for key, _ in FIGURES},
    }


def make_data(
    shared: Path,
    set_name: str,
    target: Path,
    source: str,
    images: str,
    seed: int,
    learn_from: tuple[str, str],
) -> tuple[int, int]:
    """Write the part of a set that is learned from and asked about; return how many of each."""
    rng = np.random.default_rng((seed, 31))
    splits = {root: listed(shared / root, set_name) for root in ROOTS}
    items = [item for root in ROOTS for item in indexed(shared / root / set_name)]
    if source == "all":
        root, split = learn_from
        pool = [item for item in items if item["id"] in splits[root][split]]
        asked = [item for item in items if item["id"] in splits["data"]["dev_val"]]
        pool = [item for item in pool if item["id"] not in {one["id"] for one in asked}]
        count = len(pool) if images == "all" else min(int(images), len(pool))
        drawn = [pool[i] for i in rng.permutation(len(pool))[:count]]
    else:
        drawn, asked = _of_source([i for i in items if i["id"].startswith(source)], images, rng)
    train, val = _split(drawn, rng)
    parts = {"train": train, "val": val, "test": asked}
    target.mkdir(parents=True, exist_ok=True)
    for root in ROOTS:
        link = target / root
        if not link.exists() and (shared / root / set_name).is_dir():
            link.symlink_to((shared / root / set_name).resolve(), target_is_directory=True)
    kept = {"items": [item for part in parts.values() for item in part]}
    (target / "index.json").write_text(json.dumps(kept, sort_keys=True), "utf-8")
    named = {name: [item["id"] for item in part] for name, part in parts.items()}
    (target / "splits.json").write_text(json.dumps({"sets": {target.name: named}}), "utf-8")
    return len(drawn), len(asked)


def indexed(folder: Path) -> list[dict[str, Any]]:
    """Return the items with instance masks of a set, their files relative to what links to it."""
    if not (folder / "index.json").is_file():
        return []
    items = json.loads((folder / "index.json").read_text("utf-8"))["items"]
    root = folder.parent.name
    return [
        {**item, "image": f"{root}/{item['image']}", "mask": f"{root}/{item['mask']}"}
        for item in items
        if "mask" in item and item.get("mask_kind", "instance") == "instance"
    ]


def listed(folder: Path, set_name: str) -> dict[str, set[str]]:
    """Return the names of the images in each split of a set."""
    found = json.loads((folder / "splits.json").read_text("utf-8"))["sets"].get(set_name, {})
    return {name: set(names) for name, names in found.items()}


def _of_source(
    items: list[dict[str, Any]], images: str, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draw whole groups to learn from until there are images enough; all others are asked about."""
    wanted = len(items) if images == "all" else int(images)
    groups = sorted({_group(item) for item in items})
    drawn: list[dict[str, Any]] = []
    for place, number in enumerate(rng.permutation(len(groups))):
        if len(drawn) >= wanted or place == len(groups) - 1:
            break
        drawn += [item for item in items if _group(item) == groups[number]]
    seen = {_group(item) for item in drawn}
    return drawn[:wanted], [item for item in items if _group(item) not in seen]


def _group(item: dict[str, Any]) -> str:
    return str(item.get("group") or item["id"])


def _split(drawn: list[dict], rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Hold out whole groups, until a fifth of the images is."""
    groups = sorted({_group(item) for item in drawn})
    if len(groups) < 2:
        sys.exit("All images drawn are of one group: take more, or another seed.")
    held: set[str] = set()
    for place in rng.permutation(len(groups)):
        held.add(groups[place])
        if sum(_group(item) in held for item in drawn) >= max(1, round(len(drawn) / 5)):
            break
    train = [item for item in drawn if _group(item) not in held]
    return train, [item for item in drawn if _group(item) in held]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown: mean over seeds, with the range of the gain at one click."""
    out = [
        "| set | source | model | images | seeds | asked | 1 click | 3 clicks | box |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((r["set"], r["source"], r["model"], r["images"]) for r in rows)
    for key in keys:
        part = [r for r in rows if (r["set"], r["source"], r["model"], r["images"]) == key]
        cells = []
        for name, _ in FIGURES:
            before, after = (np.mean([r[name][k] for r in part]) for k in ("before", "after"))
            gains = [r[name]["gain"] for r in part]
            spread = "" if len(part) == 1 else f"; {min(gains):+.3f} to {max(gains):+.3f}"
            cells.append(f"{before:.3f} → {after:.3f} ({after - before:+.3f}{spread})")
        asked = round(float(np.mean([r["objects_asked"] for r in part])))
        out.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {key[3]} | {len(part)} | {asked} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(out)


if __name__ == "__main__":
    main()
