"""How fast the bundled model is beside SAM ViT-B and MobileSAM, on one CPU thread.

Encoding a window, answering a prompt, and a whole click::

    python benchmarks/small_model_speed.py [--rounds N] [--threads N] [--json]

SAM and MobileSAM have random weights here, which take the same time. The rounds are interleaved, so
that a change of the machine's load meets all alike; the figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from harness import load, table
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT

from napari_histosam import open_slide
from napari_histosam.home import shipped
from napari_histosam.models import ModelRegistry
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam.tiny_vit import TinyImageEncoder

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = shipped("sample_data") / "CMU-1-Small-Region.svs"
SIDE = 512


def vit_b() -> torch.nn.Module:
    """Return the reference ViT-B encoder, built for windows of `SIDE` px."""
    return ImageEncoderViT(
        img_size=SIDE,
        depth=12,
        embed_dim=768,
        num_heads=12,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=[2, 5, 8, 11],
        out_chans=256,
    ).eval()


def reference_prompt() -> Callable[[], object]:
    """Return the reference decoder's work for one click: prompt encoder and mask decoder."""
    sam = sam_model_registry["vit_b"]().eval()
    embedding = torch.randn(1, 256, 64, 64)
    click = (torch.tensor([[[500.0, 400.0]]]), torch.ones(1, 1))

    def run() -> object:
        sparse, dense = sam.prompt_encoder(click, None, None)
        return sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    return run


def tasks(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    model = ModelRegistry(folder).load("histosam-small", "cpu")
    with open_slide(SAMPLE) as slide:
        image = slide.read_region(1000, 1900, 0, SIDE, SIDE)
    view = model.encode([image])
    click = ObjectPrompts(points=np.array([[134.0, 127.5]]), labels=np.array([1]))
    box = ObjectPrompts(box=np.array([200.0, 100.0, 250.0, 160.0]))
    pixels, large = torch.randn(1, 3, SIDE, SIDE), torch.randn(1, 3, 1024, 1024)
    big, tiny, prompt = vit_b(), TinyImageEncoder().eval(), reference_prompt()

    def small_click() -> object:
        return model.decode(model.encode([image]), [click])

    def mobile_click() -> object:
        tiny(large)
        return prompt()

    return {
        "ViT-B encoder, 512": lambda: big(pixels),
        "MobileSAM encoder, 512": lambda: tiny(pixels),
        "histosam-small encode, 512 (four scales)": lambda: model.encode([image]),
        "SAM decoder, one click": prompt,
        "histosam-small, one box": lambda: model.decode(view, [box]),
        "histosam-small, one click (four scales, three masks)": lambda: model.decode(view, [click]),
        "MobileSAM, encode and click": mobile_click,
        "histosam-small, encode and click": small_click,
    }


RATIOS = (
    ("encode a 512 window: ViT-B / histosam-small", 0, 2),
    ("encode a 512 window: MobileSAM / histosam-small", 1, 2),
    ("one prompt: SAM decoder / histosam-small's box", 3, 4),
    ("one prompt: SAM decoder / histosam-small's click", 3, 5),
    ("encode and click: MobileSAM / histosam-small", 6, 7),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        work = tasks(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(options.rounds + 1):
            for name, run in work.items():
                # Short tasks are timed over several calls; the first round warms up.
                calls = 1 if "ncode" in name else 10
                start = time.perf_counter()
                for _ in range(calls):
                    run()
                if turn:
                    times[name].append((time.perf_counter() - start) / calls * 1e3)
    middle = {name: median(found) for name, found in times.items()}
    values = list(middle.values())
    ratios = {name: values[a] / values[b] for name, a, b in RATIOS}
    if options.json:
        print(json.dumps({"load": load(), "ms": middle, "ratios": ratios}))
        return
    print(table(["task", "ms"], [[name, value] for name, value in middle.items()]))
    print()
    print(table(["ratio", "times"], [[name, value] for name, value in ratios.items()]))
    print(f"\n{load()} at the end; {options.threads} thread(s).")


if __name__ == "__main__":
    main()
