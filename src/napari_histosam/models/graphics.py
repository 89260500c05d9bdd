"""Keeps torch's compiler out of processes that draw with Mesa: two LLVMs in one end it."""

from __future__ import annotations

import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def keep_compiler_out() -> None:
    """Have torch do without triton where Mesa's LLVM is loaded already.

    torchvision, on which SAM's modules rest, imports torch's compiler, and that imports triton if
    it is installed. Triton brings an LLVM of its own, and loading it beside that of Mesa (software
    OpenGL on remote desktops and virtual machines, some AMD drivers) ends the process with a
    segmentation fault. Nothing here is compiled, so it is not missed; torch takes it for absent.
    Called before a model is loaded, for a window may have been opened since the last time.
    """
    if not sys.platform.startswith("linux") or "triton" in sys.modules:
        return
    try:
        drawn = "libLLVM" in _MAPS.read_text()
    except OSError:
        return
    if drawn:
        sys.modules["triton"] = None  # type: ignore[assignment]  # an import of it fails
