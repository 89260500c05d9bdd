"""Files in and out: GeoJSON in QuPath's flavour, prompts, label images, tables."""

from napari_histosam.exchange.formats import format_of, preview, read, write
from napari_histosam.exchange.options import (
    ExportContext,
    ExportOptions,
    ExportPreview,
    ExportReport,
    ImportResult,
)
from napari_histosam.exchange.prompts import read_prompts, write_prompts

__all__ = [
    "ExportContext",
    "ExportOptions",
    "ExportPreview",
    "ExportReport",
    "ImportResult",
    "format_of",
    "preview",
    "read",
    "read_prompts",
    "write",
    "write_prompts",
]
