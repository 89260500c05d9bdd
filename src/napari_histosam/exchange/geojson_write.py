"""Stream objects into a GeoJSON file that QuPath reads, checked before it is put in place."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, cast

from napari_histosam.exchange.files import explained, new_file, no_collection
from napari_histosam.exchange.geojson_check import Spool, verify
from napari_histosam.exchange.geojson_features import FeatureWriter
from napari_histosam.exchange.options import ExportContext, ExportOptions, ExportReport
from napari_histosam.exchange.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.records import SlideObject

_BATCH = 1000


def write_geojson(
    objects: Iterable[SlideObject],
    path: Path,
    context: ExportContext | None = None,
    options: ExportOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write objects as a FeatureCollection in QuPath's flavour.

    Memory does not grow with the number of objects. After writing, the file is read again and
    every object compared with its source; only then does it take its place.

    Parameters
    ----------
    objects : iterable of SlideObject
        Level-0 px of the full slide; read once.
    path : Path
        A suffix ``.gz`` packs it.
    context, options : optional
    progress : callable, optional
        Called with the number of objects written; may raise `errors.Cancelled`.

    Returns
    -------
    ExportReport

    Raises
    ------
    InputError
        If the file cannot be written, or an object has a coordinate that is not a number.
    HistosamError
        If the self-check fails.

    Notes
    -----
    Format: RFC 7946 with QuPath 0.4's additions; coordinates are level-0 px, corner based,
    x right, y down, less the origin. Two decimals, more for objects that two would change.
    """
    begin = time.perf_counter()
    path = Path(path)
    context, options = context or ExportContext(), options or ExportOptions()
    origin = Origin.of(options.origin, context.bounds)
    writer = FeatureWriter(context, options, origin)
    supply = iter(objects)
    with no_collection(), new_file(path) as temporary, Spool() as spool:
        with _opened(temporary, packed=path.suffix.lower() == ".gz") as file:
            file.write(_head(context, origin).encode("ascii"))
            while batch := list(itertools.islice(supply, _BATCH)):
                texts, kept, geometries = writer.batch(batch)
                if texts:
                    lead = ",\n" if spool.n else "\n"
                    file.write((lead + ",\n".join(texts)).encode("ascii"))
                spool.add([[writer.written_id(o), o.class_name or None] for o in kept], geometries)
                if progress is not None:
                    progress(spool.n)
            file.write(b"\n]}\n")
        with explained(path, "check"):
            verify(temporary, spool)
        size, n = temporary.stat().st_size, spool.n
    return ExportReport(path, n, size, time.perf_counter() - begin, tuple(writer.warnings()))


def _opened(path: Path, packed: bool) -> IO[bytes]:
    if packed:
        return cast("IO[bytes]", gzip.open(path, "wb", compresslevel=4))
    return path.open("wb", buffering=1 << 20)


def _head(context: ExportContext, origin: Origin) -> str:
    """Return the text before the first feature; the foreign member comes first for streaming."""
    own: dict[str, Any] = {"format": 1, "origin": origin.to_dict()}
    if context.mpp is not None:
        own["mpp"] = [float(v) for v in context.mpp]
    if context.slide_name:
        own["slide"] = PurePath(context.slide_name.replace("\\", "/")).name
    return f'{{"type":"FeatureCollection","histosam":{json.dumps(own)},"features":['
