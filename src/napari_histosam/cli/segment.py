"""``histosam segment``: prompts in a file to objects in a file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from napari_histosam.jobs import Progress


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("segment", help="turn prompts into objects")
    made.add_argument("slide", type=Path, metavar="SLIDE")
    made.add_argument("--prompts", type=Path, required=True, metavar="P.geojson")
    made.add_argument("--model", default=None, metavar="NAME")
    made.add_argument("--weights", type=Path, nargs="+", metavar="FILE")
    made.add_argument("--out", type=Path, required=True, metavar="OUT")
    made.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Answer the prompts and write the objects."""
    from napari_histosam.exchange import preview, read_prompts, write
    from napari_histosam.home import home
    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.session import DEFAULT_MODEL
    from napari_histosam.session.batch import segment
    from napari_histosam.session.handover import context_of
    from napari_histosam.slide import open_slide

    start = time.perf_counter()
    prompts = read_prompts(args.prompts)
    with open_slide(args.slide) as slide:
        context = context_of(slide, ())
        # A target that cannot be written is refused before the work.
        preview({}, args.out, slide_info=context)
        registry = ModelRegistry()
        name = args.model or DEFAULT_MODEL
        model = registry.load(name, device=args.device, files=args.weights)
        cache = EmbeddingCache(home() / "cache" / "embeddings")
        objects = list(segment(slide, model, prompts, cache, _show_progress))
        report = write(objects, args.out, slide_info=context)
    seconds = time.perf_counter() - start
    result = {
        "objects": report.n,
        "seconds": round(seconds, 3),
        "out": str(args.out),
        "model": model.card.name,
        "device": model.device,
        "warnings": list(report.warnings),
    }
    return result, f"{report.n} objects in {seconds:.1f} s, written to {args.out}"


def _show_progress(progress: Progress) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress.text} {progress.done} of {progress.total}")
        if progress.done == progress.total:
            sys.stderr.write("\n")
