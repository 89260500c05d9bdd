"""The same session without a window: the ``histosam`` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``histosam`` command; return its exit status."""
    from napari_histosam.cli.running import run

    return run(argv)
