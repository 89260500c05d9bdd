"""``histosam app``: napari with the dock and, if given, a slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.display import need_display

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("app", help="open the window")
    made.add_argument("slide", nargs="?", type=Path, metavar="SLIDE")
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Open the window and return when it is closed."""
    need_display()
    if args.slide is not None:
        from napari_histosam.slide import open_slide

        # Refused here in one sentence rather than in a window's error box.
        open_slide(args.slide).close()
    from napari_histosam.viewer import launch

    launch.open_with_dock(args.slide)
    launch.run()
    return {"closed": True}, "Closed."
