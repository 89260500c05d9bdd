"""Choose a file format by its suffix; write, read and preview through one door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_histosam.errors import InputError
from napari_histosam.exchange.geojson import read_geojson, write_geojson
from napari_histosam.exchange.options import (
    ExportContext,
    ExportOptions,
    ExportPreview,
    ExportReport,
    FormatName,
    ImportResult,
)
from napari_histosam.exchange.origin import Origin
from napari_histosam.exchange.table import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.exchange.origin import OriginKind
    from napari_histosam.geometry.window import Window
    from napari_histosam.records import SlideObject

SUFFIXES: dict[str, FormatName] = {
    ".geojson": "GeoJSON (QuPath)",
    ".json": "GeoJSON (QuPath)",
    ".geojson.gz": "GeoJSON (QuPath)",
    ".json.gz": "GeoJSON (QuPath)",
    ".gz": "GeoJSON (QuPath)",
    ".png": "label PNG",
    ".tif": "label TIFF",
    ".tiff": "label TIFF",
    ".csv": "CSV table",
}
UNCLASSIFIED = "Unclassified"


def format_of(path: Path) -> FormatName:
    """Return the format that a path's suffix names.

    Raises
    ------
    InputError
        For an unknown suffix, with the known ones.
    """
    name = Path(path).name.lower()
    for suffix, kind in sorted(SUFFIXES.items(), key=lambda item: -len(item[0])):
        if name.endswith(suffix) and name != suffix:
            return kind
    raise InputError(
        f"{Path(path).name} has no suffix that is known here; use .geojson (also .json and .gz) "
        "for QuPath, .png or .tif for a label image, .csv for a table."
    )


def write(
    objects: Iterable[SlideObject],
    path: Path,
    *,
    slide_info: ExportContext | None = None,
    options: ExportOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write objects in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    objects : iterable of SlideObject
        Level-0 px of the full slide.
    path : Path
    slide_info : ExportContext, optional
    options : ExportOptions, optional
    progress : callable, optional
        Called with a rising number; may raise `errors.Cancelled`.

    Returns
    -------
    ExportReport

    Raises
    ------
    InputError
        One sentence; what stood at ``path`` before is unchanged.
    """
    path = Path(path)
    context, options = slide_info or ExportContext(), options or ExportOptions()
    kind = format_of(path)
    if kind == "GeoJSON (QuPath)":
        return write_geojson(objects, path, context, options, progress)
    if kind == "CSV table":
        return write_table(objects, path, context, progress)
    from napari_histosam.exchange.labels import write_labels

    return write_labels(objects, path, _label_window(context, options), context.mpp, progress)


def read(
    path: Path,
    context: ExportContext | None = None,
    *,
    origin: OriginKind | Literal["auto"] = "auto",
    scale: tuple[float, float] | None = None,
    offset: tuple[float, float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Read objects in the format of the path's suffix.

    Parameters
    ----------
    path : Path
    context : ExportContext, optional
        Its bounds matter to QuPath's files.
    origin : {"auto", "qupath-bounds", "full-slide"}
        GeoJSON only; see `read_geojson`.
    scale, offset : (float, float), optional
        Label images only; see `read_labels`.
    progress : callable, optional

    Returns
    -------
    ImportResult
        Level-0 px of the full slide.

    Raises
    ------
    InputError
        One sentence.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "CSV table":
        raise InputError(f"{path.name} is a table without outlines; import GeoJSON or labels.")
    if kind == "GeoJSON (QuPath)":
        bounds = (context or ExportContext()).bounds
        return read_geojson(path, origin=origin, bounds=bounds, progress=progress)
    from napari_histosam.exchange.labels import read_labels

    return read_labels(path, scale, offset)


def preview(
    objects: Iterable[SlideObject] | Mapping[str | None, int],
    path: Path,
    options: ExportOptions | None = None,
    slide_info: ExportContext | None = None,
) -> ExportPreview:
    """Tell what `write` would do, without writing.

    Parameters
    ----------
    objects : iterable of SlideObject, or mapping of class name to count
    path, options, slide_info
        As in `write`.

    Returns
    -------
    ExportPreview

    Raises
    ------
    InputError
        Where `write` would for certain: unknown suffix, no folder, no region, too many for PNG.
    """
    path = Path(path)
    context, options = slide_info or ExportContext(), options or ExportOptions()
    kind = format_of(path)
    if isinstance(objects, Mapping):
        counts: Counter[str | None] = Counter({k: int(v) for k, v in objects.items() if v})
    else:
        counts = Counter(one.class_name for one in objects)
    n = counts.total()
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} is not there; choose another one.")
    warnings: list[str] = []
    shift = (0.0, 0.0)
    if kind == "GeoJSON (QuPath)":
        shift = Origin.of(options.origin, context.bounds).shift
        bounded = context.bounds is not None and any(context.bounds[:2])
        if options.origin == "full-slide" and bounded:
            warnings.append(
                "QuPath crops this slide to its bounds: objects will lie shifted there."
            )
    elif kind == "CSV table":
        if context.mpp is None:
            warnings.append("The slide has no mpp; sizes will be in px, not in µm.")
    else:
        w, h = _label_window(context, options).size
        if kind == "label PNG" and n > 65535:
            raise InputError(
                f"A PNG can number 65,535 objects, there are {n:,}; choose TIFF, which has 32 bits."
            )
        warnings.append(
            f"The image will have {w:,} x {h:,} pixels; where objects overlap, the later one wins."
        )
    if not n:
        warnings.append("There are no objects to write.")
    return ExportPreview(
        path=path,
        format=kind,
        n=n,
        per_class={name or UNCLASSIFIED: c for name, c in counts.most_common()},
        shift=shift,
        overwrites=path.exists(),
        warnings=tuple(warnings),
    )


def _label_window(context: ExportContext, options: ExportOptions) -> Window:
    from napari_histosam.exchange.labels import slide_window

    if options.window is not None:
        return options.window
    if context.size is None:
        raise InputError("A label image needs a region, or the slide whose size it takes; open it.")
    return slide_window(context.size, options.downsample)
