"""napari-histosam: prompt, correct and export objects on whole-slide images.

The public names are loaded on first use, so that ``import napari_histosam`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_histosam.session import Session
    from napari_histosam.slide import open_slide

__version__ = "0.1.0"
__all__ = ["Session", "__version__", "open_slide"]

_HOMES = {"open_slide": "napari_histosam.slide", "Session": "napari_histosam.session"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
