"""Re-read a written GeoJSON file and compare every object with its source."""

from __future__ import annotations

import itertools
import json
import struct
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_histosam.errors import HistosamError
from napari_histosam.exchange.geometry_json import geometries_from_json
from napari_histosam.exchange.json_stream import FeatureStream
from napari_histosam.exchange.origin import Origin
from napari_histosam.exchange.rounding import LEAST_IOU, same_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_IN_MEMORY = 32 * 1024**2
_HEAD = struct.Struct("<QQ")


class Spool:
    """Keeps the sources of what was written, on disk beyond 32 MB, to compare with later."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)
        self.n = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, facts: Sequence[Sequence[Any]], geometries: NDArray[np.object_]) -> None:
        """Append a batch: JSON-ready facts and the geometry of each object."""
        if not len(geometries):
            return
        told = json.dumps(facts).encode()
        shapes = shapely.to_wkb(shapely.geometrycollections(geometries))
        self._file.write(_HEAD.pack(len(told), len(shapes)) + told + shapes)
        self.n += len(facts)

    def __iter__(self) -> Iterator[tuple[list[list[Any]], NDArray[np.object_]]]:
        """Yield the batches in order."""
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            told, shapes = _HEAD.unpack(head)
            facts = json.loads(self._file.read(told))
            yield facts, shapely.get_parts(shapely.from_wkb(self._file.read(shapes)))


def verify(path: Path, spool: Spool) -> None:
    """Compare a file with the sources of its objects.

    Checked per object: id, class, and the shape in level-0 px of the full slide by the origin
    that the file itself records (IoU > 0.999; points and lines within a hundredth of a pixel).

    Parameters
    ----------
    path : Path
        The written file.
    spool : Spool
        Facts are ``[id, class name or None]``.

    Raises
    ------
    HistosamError
        If anything differs: the fault is ours, not the user's.
    """
    stream = FeatureStream(path, limit=1 << 62)
    features = iter(stream)
    done = 0
    for facts, sources in spool:
        batch = list(itertools.islice(features, len(facts)))
        if len(batch) != len(facts):
            raise _fault(f"{spool.n - done} objects are missing")
        numbers = range(done + 1, done + len(batch) + 1)
        read, _ = geometries_from_json([one["geometry"] for one in batch], numbers)
        origin = Origin.read((stream.members.get("histosam") or {}).get("origin")) or Origin()
        shift = np.array([origin.x, origin.y])
        shapes = np.empty(len(read), object)
        shapes[:] = read
        if shift.any():
            shapes = shapely.transform(shapes, lambda xy, by=shift: xy + by)
        told = [[one["id"], _class(one["properties"])] for one in batch]
        for number, is_there, should_be in zip(numbers, told, facts, strict=True):
            if is_there != should_be:
                raise _fault(f"feature {number} has another id or class than its object")
        off = np.flatnonzero(~same_shape(sources, shapes, LEAST_IOU))
        if off.size:
            raise _fault(f"feature {numbers[int(off[0])]} differs in shape from its object")
        done += len(batch)
    if next(features, None) is not None:
        raise _fault("there are more objects than were written")


def _class(properties: dict[str, Any]) -> str | None:
    told = properties.get("classification")
    if told is None:
        return None
    return told["name"] if "name" in told else ": ".join(told["names"])


def _fault(what: str) -> HistosamError:
    return HistosamError(
        f"The export was stopped because its self-check failed ({what}); the old file, if there "
        "was one, is unchanged; please report this."
    )
