"""``histosam info``: what a slide file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("info", help="show what a slide file holds")
    made.add_argument("slide", type=Path, metavar="SLIDE")
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Read the slide's head."""
    from napari_histosam.slide import open_slide

    with open_slide(args.slide) as slide:
        facts = {
            "path": str(args.slide),
            "format": slide.format,
            "vendor": slide.vendor,
            "backend": slide.backend,
            "levels": [
                {"width": level.width, "height": level.height, "downsample": level.downsample}
                for level in slide.levels
            ],
            "mpp": list(slide.mpp) if slide.mpp else None,
            "objective": slide.objective,
            "bounds": list(slide.bounds) if slide.bounds else None,
            "background": list(slide.background),
            "associated": list(slide.associated),
            "icc": slide.icc_profile is not None,
            "identity": slide.identity,
        }
    return facts, _text(facts)


def _text(facts: dict[str, Any]) -> str:
    levels = facts["levels"]
    lines = [
        f"{facts['path']}",
        f"  format      {facts['format']} ({facts['vendor'] or 'no vendor'}), read by "
        f"{facts['backend']}",
        f"  size        {levels[0]['width']} x {levels[0]['height']} px, {len(levels)} level"
        f"{'s' if len(levels) > 1 else ''}",
    ]
    for index, level in enumerate(levels):
        lines.append(
            f"    level {index}   {level['width']} x {level['height']}, "
            f"downsample {level['downsample']:g}"
        )
    mpp = facts["mpp"]
    lines.append(f"  scale       {f'{mpp[0]:g} x {mpp[1]:g} µm/px' if mpp else 'unknown'}")
    lines.append(f"  objective   {facts['objective'] or 'unknown'}")
    lines.append(f"  bounds      {facts['bounds'] or 'whole slide'}")
    lines.append(f"  associated  {', '.join(facts['associated']) or 'none'}")
    return "\n".join(lines)
