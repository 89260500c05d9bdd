"""The objects of one slide in one SQLite file, with unlimited undo and a raster for display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_histosam.store.classes import DEFAULT_CLASSES, UNCLASSIFIED_COLOUR
    from napari_histosam.store.edits import Change
    from napari_histosam.store.patches import PatchBook
    from napari_histosam.store.places import open_store_for, store_path
    from napari_histosam.store.raster import ObjectRaster
    from napari_histosam.store.reading import HistoryEntry
    from napari_histosam.store.reviews import Rejected
    from napari_histosam.store.runs import Run, RunJournal
    from napari_histosam.store.spatial import Boxes, Shapes
    from napari_histosam.store.store import ObjectStore
    from napari_histosam.store.table import Row

_HOMES = {
    "DEFAULT_CLASSES": "classes",
    "UNCLASSIFIED_COLOUR": "classes",
    "Boxes": "spatial",
    "Change": "edits",
    "HistoryEntry": "reading",
    "ObjectRaster": "raster",
    "ObjectStore": "store",
    "PatchBook": "patches",
    "Rejected": "reviews",
    "Row": "table",
    "Run": "runs",
    "RunJournal": "runs",
    "Shapes": "spatial",
    "open_store_for": "places",
    "store_path": "places",
}

__all__ = [
    "DEFAULT_CLASSES",
    "UNCLASSIFIED_COLOUR",
    "Boxes",
    "Change",
    "HistoryEntry",
    "ObjectRaster",
    "ObjectStore",
    "PatchBook",
    "Rejected",
    "Row",
    "Run",
    "RunJournal",
    "Shapes",
    "open_store_for",
    "store_path",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
