"""``histosam segment``: prompts in a file to objects in a file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.convert import add_origin_to
from napari_histosam.cli.models import check_licence
from napari_histosam.cli.target import check_target
from napari_histosam.errors import InputError

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
    made.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")
    add_origin_to(made)
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Answer the prompts and write the objects."""
    from napari_histosam.exchange import ExportOptions, preview, read_prompts, write
    from napari_histosam.home import home
    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.session import DEFAULT_MODEL
    from napari_histosam.session.batch import segment
    from napari_histosam.session.handover import context_of
    from napari_histosam.slide import open_slide

    start = time.perf_counter()
    options = ExportOptions(origin=args.origin)
    warnings: list[str] = []
    with open_slide(args.slide) as slide:
        context = context_of(slide, ())
        # What cannot be written or answered is refused before the work.
        check_target(args.out)
        preview({}, args.out, options, context)
        prompts = read_prompts(args.prompts)
        registry = ModelRegistry()
        name = args.model or DEFAULT_MODEL
        if not args.weights:
            check_licence(registry, name)
        if registry.get(name).finds == "regions":
            raise InputError(
                f"{name} maps areas and answers no prompts: to keep the areas that these touch, "
                f"use `histosam predict --pick {args.prompts}`."
            )
        model = registry.load(name, device=args.device, files=args.weights, say=warnings.append)
        cache = EmbeddingCache(home() / "cache" / "embeddings")
        objects = list(segment(slide, model, prompts, cache, _show_progress, registry=registry))
        report = write(objects, args.out, slide_info=context, options=options)
    helper = model.card.boxes_by
    if helper is not None and any(prompt.role != "box" for prompt in prompts):
        warnings.append(
            f"{model.card.name} takes boxes only: where there was another prompt, it was given the "
            f"box of {helper}'s mask."
        )
    asked = len({prompt.object for prompt in prompts})
    if asked > len(objects):
        warnings.append(f"{asked - len(objects)} of {asked} objects got an empty mask; left out.")
    warnings.extend(report.warnings)
    seconds = time.perf_counter() - start
    result = {
        "objects": report.n,
        "seconds": round(seconds, 3),
        "out": str(args.out),
        "model": model.card.name,
        "device": model.device,
        "warnings": warnings,
    }
    text = f"{report.n} objects in {seconds:.1f} s, written to {args.out}"
    return result, "\n".join([text, *warnings])


def _show_progress(progress: Progress) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress.text} {progress.done} of {progress.total}")
        if progress.done == progress.total:
            sys.stderr.write("\n")
