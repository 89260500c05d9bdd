"""Whether a window can be shown here."""

from __future__ import annotations

import os
import sys

from napari_histosam.errors import InputError


def has_display() -> bool:
    """Return whether this process can open a window (on Linux: an X or Wayland display)."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def need_display() -> None:
    """Refuse in one sentence where no window can be shown."""
    if not has_display():
        raise InputError(
            "There is no display to open a window on; run this on a desktop, or use "
            "histosam segment for work without a window."
        )
