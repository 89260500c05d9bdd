"""What WSI-SAM's coarse window adds: the same model with its low-resolution decoder on and off.

    python benchmarks/two_windows.py SHARED --model NAME [--mpp 0.125] [--json]

Objects of the images of ``SHARED/data`` that are not for training and whose longer side is more
than the fine window are asked for by three clicks, each deepest inside the largest error, in a
window around the middle of the object; IoU is that of the part in the fine window. Off means that
the low-resolution decoder's mask kernel is zero, so that nothing of the coarse window reaches the
result. A smaller µm per px than the model's own makes the window smaller and more objects larger
than it. The model is one of ``histosam models list``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_histosam.geometry.window import Window
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.slide import open_array
from napari_histosam.train.labelled import entries
from napari_histosam.train.simulate import Click, deepest_point, next_click

if TYPE_CHECKING:
    from collections.abc import Iterator

CLICKS = 3


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mpp", type=float, default=0.125)
    parser.add_argument("--set", dest="set_name", default="glands")
    parser.add_argument("--split", default="dev_val")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model: Any = ModelRegistry().load(options.model, "cpu")
    folder = options.shared / "data" / options.set_name
    found: dict[str, list[list[float]]] = {"on": [], "off": []}
    last: Any = model.net.low.hf_mlp.layers[-1]
    kept = last.weight.clone(), last.bias.clone()
    for images, truth in objects(folder, options.split, model.card.window_px, options.mpp):
        embedding = model.encode(images)
        for state in found:
            with torch.no_grad():
                last.weight.copy_(kept[0] if state == "on" else 0 * kept[0])
                last.bias.copy_(kept[1] if state == "on" else 0 * kept[1])
            found[state].append(clicked(model, embedding, truth))
    figures = {state: np.mean(ious, 0).round(4).tolist() for state, ious in found.items()}
    told = {
        "model": options.model,
        "mpp": options.mpp,
        "window_um": options.mpp * model.card.window_px,
        "objects": len(found["on"]),
        **figures,
    }
    if options.json:
        print(json.dumps(told))
        return
    print(f"| objects over {told['window_um']:.0f} µm | low resolution | 1 click | 3 clicks |")
    print("|---|---|---|---|")
    for state, ious in figures.items():
        print(f"| {told['objects']} | {state} | {ious[0]:.3f} | {ious[-1]:.3f} |")


def objects(
    folder: Path, split: str, side: int, mpp: float
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yield both windows around each object larger than the fine one, and its mask there."""
    from scipy import ndimage

    for entry in entries(folder, [split]):
        if entry.mpp is None:
            continue
        scale = mpp / entry.mpp
        image, labels = entry.read()
        for number, place in enumerate(ndimage.find_objects(labels.astype(int)), 1):
            if place is None:
                continue
            rows, columns = place
            longer = max(rows.stop - rows.start, columns.stop - columns.start)
            if longer <= side * scale:
                continue
            cx, cy = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
            windows = [Window(cx, cy, (scale * k, scale * k), (side, side)) for k in (1, 2)]
            with open_array([image], None, entry.name) as slide:
                seen = [slide.read(window) for window in windows]
            mask = np.repeat((labels == number).astype(np.uint8)[..., None] * 255, 3, 2)
            with open_array([mask], None, entry.name) as slide:
                truth = slide.read(windows[0])[..., 0] > 127
            left, top, right, bottom = windows[0].bounds
            inside = left >= 0 and top >= 0 and right <= image.shape[1] and bottom <= image.shape[0]
            if inside and 0.02 < truth.mean() < 0.98:
                yield seen, truth


def clicked(model: Any, embedding: Any, truth: np.ndarray) -> list[float]:
    """Return the IoUs after 1, 2, … clicks."""
    clicks = [Click(*deepest_point(truth), True)]
    ious: list[float] = []
    while True:
        prompts = ObjectPrompts(
            np.array([[c.x, c.y] for c in clicks]), np.array([int(c.positive) for c in clicks])
        )
        (answer,) = model.decode(embedding, [prompts], multimask=False)
        mask = answer.masks[0]
        ious.append(float((mask & truth).sum() / max((mask | truth).sum(), 1)))
        click = next_click(truth, mask)
        if len(clicks) == CLICKS or click is None:
            return ious + [ious[-1]] * (CLICKS - len(ious))
        clicks.append(click)


if __name__ == "__main__":
    main()
