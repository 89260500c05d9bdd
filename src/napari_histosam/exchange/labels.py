"""Label images of a region or level: objects to pixels and back, with a table of who is who."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange.colours import class_colour
from napari_histosam.exchange.files import new_files
from napari_histosam.exchange.geojson_features import is_uuid
from napari_histosam.exchange.label_image import read_pixels, write_png, write_tiff
from napari_histosam.exchange.options import ExportReport, ImportResult
from napari_histosam.exchange.origin import Origin
from napari_histosam.exchange.table import plain_text, safe_text
from napari_histosam.geometry.masks import mask_to_polygons
from napari_histosam.geometry.polygons import clean
from napari_histosam.geometry.scan import fill
from napari_histosam.geometry.window import Window
from napari_histosam.records import ObjectClass, Provenance, SlideObject, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

PNG_MOST = 65535
"""Objects that 16 bits can number."""

_LISTED = 10**7


def slide_window(size: tuple[int, int], downsample: float = 1.0) -> Window:
    """Return the window that covers a whole slide of (w, h) level-0 px at a downsample."""
    if not downsample > 0:
        raise InputError("The downsample of a label image must be above 0; 1 is full resolution.")
    w, h = (max(1, math.ceil(side / downsample)) for side in size)
    return Window(w * downsample / 2, h * downsample / 2, (downsample, downsample), (w, h))


def mapping_path(path: Path) -> Path:
    """Return where the table of a label image lies: beside it, ``NAME.labels.csv``."""
    return path.with_name(f"{path.stem}.labels.csv")


def write_labels(
    objects: Iterable[SlideObject],
    path: Path,
    window: Window,
    mpp: tuple[float, float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write objects as a label image, tile by tile, and a CSV with the object of each label.

    A pixel gets an object's number (1 to n in the given order) if its centre lies inside;
    where objects overlap, the later one wins.

    Parameters
    ----------
    objects : iterable of SlideObject
        Level-0 px.
    path : Path
        ``.png``: 16 bit, up to 65,535 objects. ``.tif``, ``.tiff``: tiled, 16 bit, or 32 bit
        beyond that many.
    window : Window
        The region and its resolution; `slide_window` for all of a level.
    mpp : (float, float), optional
        µm per level-0 px, for the resolution tags.
    progress : callable, optional
        Called with the number of rows done; may raise `errors.Cancelled`.

    Returns
    -------
    ExportReport

    Raises
    ------
    InputError
        Too many objects for PNG, or the files cannot be written.
    """
    begin = time.perf_counter()
    path = Path(path)
    shaped = [(one, clean(one.geometry)) for one in objects]
    kept = [one for one, shape in shaped if shape is not None]
    shapes = np.array([shape for _, shape in shaped if shape is not None], object)
    is_png = path.suffix.lower() == ".png"
    if is_png and len(kept) > PNG_MOST:
        raise InputError(
            f"A PNG can number {PNG_MOST:,} objects, there are {len(kept):,}; "
            "choose TIFF, which has 32 bits."
        )
    dtype = np.dtype(np.uint16 if len(kept) <= PNG_MOST else np.uint32)
    render = _Renderer(shapes, window, dtype, progress)
    note = json.dumps({"window": window.to_dict(), "software": "napari-histosam"})
    um = None if mpp is None else (mpp[0] * window.scale[0], mpp[1] * window.scale[1])
    with new_files(path, mapping_path(path)) as (image, table):
        if is_png:
            write_png(image, window.size, render, note, um)
        else:
            write_tiff(image, window.size, dtype, render, note, um)
        _write_mapping(kept, table)
        size = image.stat().st_size
    warnings = []
    if len(kept) < len(shaped):
        warnings.append(f"{len(shaped) - len(kept)} points or lines have no area; left out.")
    unseen = len(kept) - int(np.count_nonzero(render.seen[1:]))
    if unseen:
        warnings.append(
            f"{unseen} objects have no pixel here: too small, covered, or outside the region."
        )
    return ExportReport(path, len(kept), size, time.perf_counter() - begin, tuple(warnings))


class _Renderer:
    """Renders rectangles of a label image; remembers which labels were seen."""

    def __init__(
        self,
        shapes: NDArray[np.object_],
        window: Window,
        dtype: np.dtype[Any],
        progress: Callable[[int], None] | None,
    ):
        self._shapes = shapes
        self._tree = shapely.STRtree(shapes)
        self._window = window
        self._dtype = dtype
        self._progress = progress
        self.seen = np.zeros(len(shapes) + 1, np.bool_)

    def __call__(self, x: int, y: int, w: int, h: int) -> NDArray[Any]:
        out = np.zeros((h, w), self._dtype)
        corners = self._window.to_level0([[x, y], [x + w, y + h]])
        found = np.sort(self._tree.query(shapely.box(*corners.ravel())))
        if found.size:
            local = shapely.transform(
                self._shapes[found], lambda xy: self._window.from_level0(xy) - (x, y)
            )
            fill(out, local, (found + 1).tolist())
            self.seen[out.ravel()] = True
        if self._progress is not None:
            self._progress(y + h)
        return out


def read_labels(
    path: Path,
    scale: tuple[float, float] | None = None,
    offset: tuple[float, float] | None = None,
) -> ImportResult:
    """Read a label image into objects, traced exactly along its pixel edges.

    Parameters
    ----------
    path : Path
        PNG or TIFF with one channel of whole numbers, 0 for background. A table beside it
        (`mapping_path`) gives ids, classes and names.
    scale : (float, float), optional
        Level-0 px per label px along x and y.
    offset : (float, float), optional
        Level-0 x, y of the image's upper left corner. Without scale and offset, what the file
        records is used, else 1 and 0.

    Returns
    -------
    ImportResult
        One object per label, level-0 px.

    Raises
    ------
    InputError
        If the file cannot be read or is no label image.
    """
    from scipy import ndimage

    path = Path(path)
    labels, window = read_pixels(path)
    warnings = []
    h, w = labels.shape
    if scale is not None or offset is not None:
        sx, sy = scale or (1.0, 1.0)
        left, top = offset or (0.0, 0.0)
        window = Window(left + w * sx / 2, top + h * sy / 2, (sx, sy), (w, h))
    elif window is None:
        window = Window(w / 2, h / 2, (1.0, 1.0), (w, h))
        warnings.append("The image does not say where it lies; it was laid on level 0 at 0, 0.")
    dense, values = _dense(labels, path)
    boxes = ndimage.find_objects(dense)
    table = _read_mapping(mapping_path(path))
    objects, taken = [], set[str]()
    for index, place in enumerate(boxes, start=1):
        if place is None:
            continue
        rows, cols = place
        left, top = window.to_level0([cols.start, rows.start])
        width, height = cols.stop - cols.start, rows.stop - rows.start
        sx, sy = window.scale
        part = Window(left + width * sx / 2, top + height * sy / 2, (sx, sy), (width, height))
        geometry = mask_to_polygons(dense[place] == index, part)
        if geometry is None:
            continue
        told = table.get(index if values is None else int(values[index]), {})
        one = told.get("id", "")
        fresh = new_id() if not is_uuid(one) or one in taken else one
        taken.add(fresh)
        objects.append(
            SlideObject(
                geometry=geometry,
                id=fresh,
                class_name=told.get("class") or None,
                name=told.get("name") or None,
                provenance=Provenance(source="imported"),
            )
        )
    names = dict.fromkeys(one.class_name for one in objects if one.class_name)
    classes = [ObjectClass(name, class_colour(name)) for name in names]
    return ImportResult(objects, classes, warnings, Origin("full-slide"))


def _dense(labels: NDArray[Any], path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return labels small enough to be listed, and their own values where they were renumbered."""
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8), None
    if labels.size and int(labels.min()) < 0:
        raise InputError(f"{path.name} has labels below 0; export it again.")
    if not labels.size or int(labels.max()) <= _LISTED:
        return labels, None
    values, dense = np.unique(labels, return_inverse=True)
    if values[0] != 0:
        values, dense = np.append(0, values), dense + 1
    return dense.reshape(labels.shape).astype(np.int32), values


def _write_mapping(objects: list[SlideObject], path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "id", "class", "name"])
        for label, one in enumerate(objects, start=1):
            writer.writerow(
                [label, safe_text(one.id), safe_text(one.class_name), safe_text(one.name)]
            )


def _read_mapping(path: Path) -> dict[int, dict[str, str]]:
    """Read the table if it is there and readable; labels without a row are unclassified."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {key: plain_text(value) for key, value in row.items() if isinstance(value, str)}
                for row in csv.DictReader(file)
            ]
        return {int(row["label"]): row for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
