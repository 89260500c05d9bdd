"""``histosam convert``: between annotation formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("convert", help="convert annotations")
    made.add_argument("source", type=Path, metavar="IN")
    made.add_argument("target", type=Path, metavar="OUT")
    made.add_argument("--slide", type=Path, metavar="SLIDE", help="gives scale, size and bounds")
    made.add_argument(
        "--origin",
        choices=["full-slide", "qupath-bounds"],
        default="full-slide",
        help="where (0, 0) lies in a GeoJSON file that is written",
    )
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Read one file and write the other."""
    from napari_histosam.exchange import ExportContext, ExportOptions, preview, read, write
    from napari_histosam.session.handover import context_of
    from napari_histosam.slide import open_slide

    if args.slide is not None:
        with open_slide(args.slide) as slide:
            context = context_of(slide, ())
    else:
        context = ExportContext()
    options = ExportOptions(origin=args.origin)
    # A target that cannot be written is refused before a long file is read.
    preview({}, args.target, options, context)
    found = read(args.source, context)
    context = replace(context, classes=tuple(found.classes))
    report = write(found.objects, args.target, slide_info=context, options=options)
    result = {
        "objects": report.n,
        "seconds": round(report.seconds, 3),
        "out": str(args.target),
        "warnings": [*found.warnings, *report.warnings],
    }
    text = f"{report.n} objects written to {args.target}"
    return result, "\n".join([text, *result["warnings"]])
