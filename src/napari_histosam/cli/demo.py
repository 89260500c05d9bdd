"""``histosam demo``: the main job on the shipped sample, in a window if there is a display."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.display import has_display

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

# Boxes and clicks on the sample slide, level-0 px, each with the class it is accepted as.
SCRIPT: list[dict[str, Any]] = []


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("demo", help="the main job on the shipped sample")
    made.add_argument("--out", type=Path, default=Path("demo_out"), metavar="DIR")
    made.add_argument("--stay", action="store_true", help="leave the window open at the end")
    made.add_argument("--no-window", action="store_true", help="do without a window")
    return made
