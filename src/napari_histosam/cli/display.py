"""Whether a window can be shown here."""

from __future__ import annotations

import os
import re
import socket
import sys

from napari_histosam.errors import InputError


def has_display() -> bool:
    """Return whether this process can open a window (on Linux: an X or Wayland display)."""
    if sys.platform in ("win32", "darwin"):
        return True
    return _wayland_answers() or _x_answers()


def _x_answers() -> bool:
    """Whether an X server listens where ``DISPLAY`` says: Qt would end the process where not."""
    found = re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", os.environ.get("DISPLAY", ""))
    if found is None:
        # Another machine's (ssh -X): taken at its word.
        return bool(os.environ.get("DISPLAY"))
    path = f"/tmp/.X11-unix/X{found[1]}"
    return any(_listens(address) for address in (path, f"\0{path}"))


def _wayland_answers() -> bool:
    name = os.environ.get("WAYLAND_DISPLAY")
    if not name:
        return False
    return _listens(os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), name))


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(1.0)
        try:
            door.connect(address)
        except OSError:
            return False
        return True


def need_display() -> None:
    """Refuse in one sentence where no window can be shown."""
    if not has_display():
        raise InputError(
            "There is no display to open a window on; run this on a desktop, or use "
            "histosam segment for work without a window."
        )
