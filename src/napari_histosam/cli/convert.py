"""``histosam convert``: between annotation formats."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.target import check_target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("convert", help="convert annotations")
    made.add_argument("source", type=Path, metavar="IN")
    made.add_argument("target", type=Path, metavar="OUT")
    made.add_argument("--slide", type=Path, metavar="SLIDE", help="gives scale, size and bounds")
    add_origin_to(made)
    return made


def add_origin_to(command: ArgumentParser) -> None:
    """Declare the option that says from where a written GeoJSON file counts."""
    command.add_argument(
        "--origin",
        choices=["qupath-bounds", "full-slide"],
        default="qupath-bounds",
        help="where (0, 0) lies in a GeoJSON file that is written: at the corner of the scanned "
        "area, to which QuPath crops a slide that states one (default), or at the slide's own",
    )


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Read one file and write the other."""
    from napari_histosam.exchange import ExportContext, ExportOptions, preview, read, write
    from napari_histosam.session.handover import context_of
    from napari_histosam.slide import open_slide

    start = time.perf_counter()
    if args.slide is not None:
        with open_slide(args.slide) as slide:
            context = context_of(slide, ())
    else:
        context = ExportContext()
    options = ExportOptions(origin=args.origin)
    # A target that cannot be written is refused before a long file is read.
    check_target(args.target)
    preview({}, args.target, options, context)
    found = read(args.source, context)
    context = replace(context, classes=tuple(found.classes))
    report = write(found.objects, args.target, slide_info=context, options=options)
    warnings = [*found.warnings, *report.warnings]
    result = {
        "objects": report.n,
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(args.target),
        "warnings": warnings,
    }
    return result, "\n".join([f"{report.n} objects written to {args.target}", *warnings])
