"""How much an epoch costs from kept features, against one that runs SAM ViT-B's encoder.

Both train the same decoder on the same windows and objects; the second encodes every window again,
as it must where the encoder is trained or nothing is kept. Weights are random: the arithmetic is
the same. ``--images`` and ``--objects`` keep it short on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import load, random_vit, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4], help="in each image")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--half", action="store_true", help="bfloat16, as on devices that have it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HISTOSAM_HOME"] = str(Path(folder) / "home")
        run(args, Path(folder))


def run(args: argparse.Namespace, folder: Path) -> None:
    import torch

    from napari_histosam.models import ModelRegistry
    from napari_histosam.models.devices import choose_device
    from napari_histosam.models.trained import base_hash, build_trainable
    from napari_histosam.train.finetune.features import Encoded
    from napari_histosam.train.finetune.step import Memory, Teacher
    from napari_histosam.train.finetune.windows import cut
    from napari_histosam.train.labelled import entries

    if args.threads:
        torch.set_num_threads(args.threads)
    registry = ModelRegistry()
    name = random_vit(registry, folder)
    device = torch.device(choose_device(args.device).name)
    kind = device.type
    model = build_trainable(registry, name, "decoder")
    model.module.to(device)
    write(folder / "data", args.images, max(args.objects))
    samples = cut(entries(folder / "data"), model.card)

    def precision() -> contextlib.AbstractContextManager:
        return torch.autocast(kind, torch.bfloat16) if args.half else contextlib.nullcontext()

    kept = Encoded(model, folder / "features", base_hash(registry, name), device, precision)
    begun = time.perf_counter()
    kept.prepare(samples, lambda _: None)
    once = time.perf_counter() - begun

    # On a CPU that others use, too, the seconds that it worked for this process count.
    clock = time.process_time if kind == "cpu" else time.perf_counter

    def epoch(encoded: Encoded | None, objects: int, number: int) -> float:
        teacher = Teacher(
            model, encoded, 0, objects, device, precision, lambda loss: loss.backward(),
            Memory(1), True, print,
        )  # fmt: skip
        begun = clock()
        for sample in samples:
            teacher.gradients([sample], number)
        if kind == "cuda":
            torch.cuda.synchronize()
        return clock() - begun

    rows = []
    for objects in args.objects:
        epoch(kept, objects, 0)  # warms up
        from_kept = min(epoch(kept, objects, n) for n in range(args.rounds))
        running = min(epoch(None, objects, n) for n in range(args.rounds))
        rows.append((objects, running, from_kept, running / from_kept))
    print(
        f"SAM ViT-B, {len(samples)} windows, {device}, {torch.get_num_threads()} threads, {load()}"
    )
    print(f"Encoding once, at the beginning: {once:.1f} s\n")
    head = ("objects per window", "epoch with encoder, s", "epoch from kept features, s", "times")
    print(table(head, rows))


def write(folder: Path, images: int, objects: int) -> None:
    """Write images of 1024 px with dark discs."""
    import json

    import cv2

    items = []
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(images):
        rng = np.random.default_rng(number)
        image = np.full((1024, 1024, 3), (228, 190, 212), np.uint8)
        labels = np.zeros((1024, 1024), np.uint16)
        for label in range(1, objects + 1):
            x, y = (int(v) for v in rng.integers(60, 960, 2))
            cv2.circle(labels, (x, y), 40, label, -1)
        image[labels > 0] = (90, 62, 140)
        item = {"id": f"made_{number}", "image": f"images/{number}.png"}
        item["mask"] = f"masks/{number}.png"
        cv2.imwrite(str(folder / item["image"]), image[..., ::-1])
        cv2.imwrite(str(folder / item["mask"]), labels)
        items.append(item)
    (folder / "index.json").write_text(json.dumps({"items": items}), "utf-8")


if __name__ == "__main__":
    main()
