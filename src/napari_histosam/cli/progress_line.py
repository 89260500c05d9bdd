"""Shows how far a command has come, on one line of a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_histosam.jobs import Progress


class ProgressLine:
    """Shows progress on one line of a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if sys.stderr.isatty():
            of = "" if progress.total is None else f" {progress.done} of {progress.total}"
            sys.stderr.write(f"\r\x1b[K{progress.text}{of}")
            self._shown = True

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            sys.stderr.write("\n")
