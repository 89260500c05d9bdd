"""Write a CSV table of objects, sizes in µm where the slide's mpp is known."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.exchange.files import new_file
from napari_histosam.exchange.options import ExportContext, ExportReport
from napari_histosam.geometry.polygons import area_um2, perimeter_um

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.records import SlideObject

_ABOUT = ["id", "object_type", "class", "name", "source", "author", "model", "score"]
_UM = ["area_um2", "perimeter_um", "centroid_x_um", "centroid_y_um"]
_PX_SIZE = ["area_px2", "perimeter_px"]
_PX_PLACE = [
    "centroid_x_px", "centroid_y_px",
    "bbox_left_px", "bbox_top_px", "bbox_right_px", "bbox_bottom_px",
]  # fmt: skip
_TIMES = ["created", "modified"]
_FORMULA = "=+-@\t\r\n"


def write_table(
    objects: Iterable[SlideObject],
    path: Path,
    context: ExportContext | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write one row per object.

    Columns name their unit: µm where the slide has an mpp, else level-0 px; places are in
    level-0 px in any case. UTF-8 with a byte-order mark, because Excel takes CSV without one
    for another encoding and pandas skips it. Text that a spreadsheet would run as a formula is
    quoted by an apostrophe.

    Parameters
    ----------
    objects : iterable of SlideObject
        Level-0 px; read once.
    path : Path
    context : ExportContext, optional
    progress : callable, optional
        Called with the number of rows; may raise `errors.Cancelled`.

    Returns
    -------
    ExportReport

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    begin = time.perf_counter()
    path = Path(path)
    mpp = (context or ExportContext()).mpp
    n = 0
    with new_file(path) as temporary:
        with temporary.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*_ABOUT, *(_PX_SIZE if mpp is None else _UM), *_PX_PLACE, *_TIMES])
            for n, one in enumerate(objects, start=1):
                writer.writerow(_row(one, mpp))
                if progress is not None and n % 1000 == 0:
                    progress(n)
        size = temporary.stat().st_size
    warnings = () if mpp is not None else ("The slide has no mpp; sizes are in px, not in µm.",)
    return ExportReport(path, n, size, time.perf_counter() - begin, warnings)


def safe_text(text: str | None) -> str:
    """Return text that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    if not text:
        return ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return f"'{text}" if text[0] in _FORMULA else text


def plain_text(text: str) -> str:
    """Undo `safe_text`."""
    return text[1:] if text[:1] == "'" and text[1:2] and text[1] in _FORMULA else text


def _row(one: SlideObject, mpp: tuple[float, float] | None) -> list[Any]:
    shape, told = one.geometry, one.provenance
    centre = np.array([shape.centroid.x, shape.centroid.y]) if not shape.is_empty else [np.nan] * 2
    if mpp is None:
        sizes = [shape.area, shape.length]
    else:
        um = np.asarray(centre) * mpp
        sizes = [area_um2(shape, mpp), perimeter_um(shape, mpp), um[0], um[1]]
    places = [*centre, *shapely.bounds(shape)]
    return [
        safe_text(one.id),
        one.object_type,
        safe_text(one.class_name),
        safe_text(one.name),
        told.source,
        safe_text(told.author),
        safe_text(told.model),
        _figure(told.score),
        *(_figure(value) for value in sizes),
        *(_figure(float(value)) for value in places),
        safe_text(one.created),
        safe_text(one.modified),
    ]


def _figure(value: float | None) -> str:
    """Return a number with at most four decimals and a point, whatever the locale."""
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.4f}".rstrip("0").rstrip(".")
