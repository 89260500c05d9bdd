"""What EP-SAM learns of tumour areas from labels of patches alone.

    python benchmarks/patch_learning.py SHARED --model NAME --out DIR [--patches N] [--epochs N] …

NAME is an untrained EP-SAM (``histosam models new ep-sam --base SAM`` makes one). A patch is a
whole EBHI-Seg image of 224 px, seen at ``--patch-px``: *tumour* are N of ``tumour_patches``,
*normal* N images of normal mucosa, polyps and serrated adenomas of ``glands`` (none of low-grade
neoplasia), from the training splits of ``SHARED/data`` and ``SHARED/training_pool``. They are
copied to ``DIR/patches`` with their labels and groups and no mask, ``histosam train`` learns from
that folder, a fifth of the groups chooses the epochs, and what it learned is then measured on the
images of ``dev_val`` against their outlines. What is in ``DIR`` is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from detector_learning import histosam
from harness import load, table
from learning_curve import listed

from napari_histosam.models import ModelRegistry
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.train.patchwise.classifier import area_under_curve
from napari_histosam.train.patchwise.labels import PatchEntry
from napari_histosam.train.patchwise.patches import Patches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.models.ep_sam.model import EpSamModel

NORMAL = ("Normal", "Polyp", "Serrated adenoma")
PERCENTILES = (10.0, 30.0, 50.0)
SOURCES = {"data": "dev_train", "training_pool": "pool_train"}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--patches", type=int, default=120, help="of each label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    numbers = {
        **{"patch-px": 112, "epochs": 15, "rounds": 1, "decoder-epochs": 1, "views": 1},
        **{"percentile": 30.0, "agreement": 0.6, "decoder-rate": 1e-5},
    }
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    data, run = options.out / "patches", options.out / "run"
    if not (data / "index.json").is_file():
        make_data(options.shared, data, options.patches, options.seed)
    name = f"{options.model}-patches-{options.patches}-{options.seed}"
    if not (options.out / "result.json").is_file():
        given = vars(options)
        done = histosam(
            *("train", str(data), "--model", options.model, "--out", str(run), "--name", name),
            *("--seed", str(options.seed), "--threads", str(options.threads)),
            *("--accelerator", "cpu"),
            *(text for n in numbers for text in (f"--{n}", str(given[n.replace("-", "_")]))),
        )
        (options.out / "result.json").write_text(json.dumps(done, indent=1), "utf-8")
    report(options.shared / "data", name, run)


def make_data(shared: Path, target: Path, count: int, seed: int) -> None:
    """Copy images, and write their labels."""
    rng = np.random.default_rng((seed, 53))
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {"tumour": [], "normal": []}
    for place, split in SOURCES.items():
        for kind, folder in (("tumour", "tumour_patches"), ("normal", "glands")):
            names = set(listed(shared / place, folder)[split])
            for item in _items(shared / place / folder):
                if item["id"] in names and _is(item, kind):
                    found[kind].append((shared / place / folder, item))
    (target / "images").mkdir(parents=True, exist_ok=True)
    items = []
    for label, all_of in found.items():
        for i in sorted(rng.permutation(len(all_of))[:count]):
            folder, item = all_of[i]
            image = Path(item["image"])
            shutil.copyfile(folder / image, target / "images" / image.name)
            kept = {"id": item["id"], "image": f"images/{image.name}", "label": label}
            items.append({**kept, "group": item["group"], "mpp": None})
    text = json.dumps({"items": items}, indent=1, sort_keys=True)
    (target / "index.json").write_text(text, "utf-8")


def _items(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "index.json").read_text("utf-8"))["items"]
    return found


def _is(item: dict[str, Any], kind: str) -> bool:
    if not item["dataset"].startswith("EBHI"):
        return False
    return kind == "tumour" or item.get("tissue_class") in NORMAL


def report(data: Path, name: str, run: Path) -> None:
    """Measure on ``dev_val``, and print."""
    model: EpSamModel = ModelRegistry().load(name, "cpu")  # type: ignore[assignment]
    patches = Patches(model.card.window_px)
    seen: list[tuple[NDArray[np.uint8], NDArray[np.bool_] | None]] = []
    for kind, folder in (("tumour", "tumour_patches"), ("normal", "glands")):
        names = set(listed(data, folder)["dev_val"])
        for item in _items(data / folder):
            if item["id"] not in names or not _is(item, kind):
                continue
            image = data / folder / item["image"]
            entry = PatchEntry(item["id"], image, None, item["group"], kind == "tumour")
            mask = None
            if kind == "tumour":
                mask = cv2.imread(str(data / folder / item["mask"]), cv2.IMREAD_GRAYSCALE) > 0
            seen.append((patches.of(entry), mask))
    heats = [model.heat(image) for image, _ in seen]
    tumour = np.array([likely for likely, _ in heats])
    truth = np.array([mask is not None for _, mask in seen])
    gate = model.recipe.gate
    right = float(((tumour >= gate) == truth).mean())
    print(
        f"{truth.sum()} patches with tumour, {(~truth).sum()} without: accuracy {right:.3f}, AUC "
        f"{area_under_curve(tumour, truth):.3f}.\n"
    )
    sides = [image.shape[:2] for image, _ in seen]
    maps = {"all of every patch": [np.ones(side) for side in sides]}
    for percentile in PERCENTILES:
        profile = replace(model.recipe.profile, percentile=percentile)
        maps[f"heat map, percentile {percentile:.0f}"] = [
            heat.mask(profile).astype(float) for _, heat in heats
        ]
    stages = [p.stem for p in sorted((run / "parts").glob("*.safetensors"))]
    own = ModelRegistry().get(name).trained
    assert own is not None
    plain: EpSamModel = ModelRegistry().load(own.base, "cpu")  # type: ignore[assignment]
    decoders = {"SAM's own decoder, at its points": plain.net.sam.mask_decoder.state_dict()}
    for stage in (one for one in stages if one != "classifier"):
        kept = read_checkpoint(run / "parts" / f"{stage}.safetensors", strip=False)
        decoders[f"decoder after {'the first stage' if stage == 'decoder' else stage}"] = kept
    ordered = [model.recipe.ordered(image) for image, _ in seen]
    embeddings = {image.tobytes(): model.net.embedded(image) for image in ordered}
    model.net.embedded = lambda patch: embeddings[patch.tobytes()]  # type: ignore[method-assign]
    for what, state in decoders.items():
        model.net.sam.mask_decoder.load_state_dict(state)
        maps[what] = [model.propose(image).likely for image, _ in seen]
    rows = []
    for what, found in maps.items():
        scores, false, gated = [], [], []
        for one, likely, (_, mask) in zip(found, tumour, seen, strict=True):
            if mask is None:
                false.append(float((one > 0.5).mean()))
                gated.append(false[-1] * (likely >= gate))
                continue
            whole = cv2.resize(one.astype(np.float32), mask.shape[::-1]) > 0.5
            common, both = int((whole & mask).sum()), int(whole.sum() + mask.sum())
            scores.append((2 * common / max(both, 1), common / max(both - common, 1)))
        dice, iou = np.mean(scores, 0)
        rows.append([what, dice, iou, float(np.mean(false)), float(np.mean(gated))])
    head = ["outlined by", "Dice", "IoU", "of normal patches", "of them, gated"]
    print(table(head, [[r[0], *(f"{v:.3f}" for v in r[1:])] for r in rows]))
    print(f"\n{load()} at the end.")


if __name__ == "__main__":
    main()
