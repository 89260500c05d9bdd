"""Slides: open any file, read exact pixels at any µm per pixel, show them at any zoom."""

from napari_histosam.slide.cache import TileCache
from napari_histosam.slide.open import open_array, open_slide
from napari_histosam.slide.pyramid import DisplayPyramid, PyramidLevel
from napari_histosam.slide.slide import Slide
from napari_histosam.slide.source import Level, SourceInfo, TileSource
from napari_histosam.slide.tissue import TissueMask, find_anything, find_tissue

__all__ = [
    "DisplayPyramid",
    "Level",
    "PyramidLevel",
    "Slide",
    "SourceInfo",
    "TileCache",
    "TileSource",
    "TissueMask",
    "find_anything",
    "find_tissue",
    "open_array",
    "open_slide",
]
