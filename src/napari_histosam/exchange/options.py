"""The frozen requests and results of exporting and importing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_histosam.exchange.origin import Origin, OriginKind
    from napari_histosam.geometry.window import Window
    from napari_histosam.records import ObjectClass, ObjectType, SlideObject

FormatName = Literal["GeoJSON (QuPath)", "label PNG", "label TIFF", "CSV table"]


@dataclass(frozen=True)
class ExportContext:
    """What is known of the slide.

    Parameters
    ----------
    mpp : (float, float), optional
        µm per level-0 px along x and y.
    bounds : (float, float, float, float), optional
        x, y, width, height of the scanned area in level-0 px (OpenSlide's ``bounds-*``).
    size : (int, int), optional
        Width and height of level 0.
    slide_name : str, optional
        The slide's file name; folders are never written.
    classes : tuple of ObjectClass
        Give the colours.
    """

    mpp: tuple[float, float] | None = None
    bounds: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    slide_name: str | None = None
    classes: tuple[ObjectClass, ...] = ()


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose.

    Parameters
    ----------
    origin : {"qupath-bounds", "full-slide"}
        GeoJSON: QuPath crops a slide to its bounds and counts from there; the other tools count
        from the slide's own corner. No difference where bounds start at 0, 0.
    object_type : str, optional
        GeoJSON: write all objects as this kind; "detection" for cells by the ten thousand.
    provenance : bool
        GeoJSON: write prompts, model, window, score and times into ``metadata``.
    first_masks : bool
        GeoJSON: with the provenance, also the model's first mask.
    window : Window, optional
        Label images: the region and its resolution; the whole slide without it.
    downsample : float
        Label images of the whole slide: level-0 px per label px.
    """

    origin: OriginKind = "qupath-bounds"
    object_type: ObjectType | None = None
    provenance: bool = True
    first_masks: bool = True
    window: Window | None = None
    downsample: float = 1.0


@dataclass(frozen=True)
class ExportReport:
    """What was written: the path, objects, bytes, seconds, and what the user should know."""

    path: Path
    n: int
    bytes: int
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportPreview:
    """What would be written.

    Parameters
    ----------
    path : Path
    format : str
        In words.
    n : int
    per_class : mapping of str to int
        Objects per class, "Unclassified" for those without one.
    shift : (float, float)
        Added to level-0 x and y on writing.
    overwrites : bool
    warnings : tuple of str
    """

    path: Path
    format: FormatName
    n: int
    per_class: Mapping[str, int]
    shift: tuple[float, float]
    overwrites: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """What a file held.

    Parameters
    ----------
    objects : list of SlideObject
        Level-0 px of the full slide, whatever the file's origin.
    classes : list of ObjectClass
        In order of appearance.
    warnings : list of str
        What was repaired, left out or assumed, one sentence each.
    origin : Origin
        The origin by which the file was read.
    """

    objects: list[SlideObject] = field(default_factory=list)
    classes: list[ObjectClass] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    origin: Origin | None = None
