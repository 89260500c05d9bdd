"""The map on disk: a multiscale OME-Zarr (0.4), written chunk by chunk."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.exchange.colours import class_colour
from napari_histosam.exchange.files import explained
from napari_histosam.slide.resample import block_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.slide import TissueMask

    Box = tuple[int, int, int, int]

CHUNK = 512
COARSEST_PX = 1024
ABOUT = "histosam"
TISSUE = "tissue"


class Canvas:
    """A map under way.

    Parameters
    ----------
    folder : Path
        The OME-Zarr's; made by `create`.

    Notes
    -----
    Chunks that hold nothing but zeros are not written, so glass takes no room.
    """

    def __init__(self, folder: Path) -> None:
        import zarr

        self.folder = folder
        with explained(folder, "read"):
            self._group: Any = zarr.open_group(str(folder), mode="r+", zarr_format=2)
        attributes: Any = self._group.attrs
        count = len(attributes["multiscales"][0]["datasets"])
        self._levels: list[Any] = [self._group[str(level)] for level in range(count)]

    @classmethod
    def create(
        cls,
        folder: Path,
        classes: Sequence[str],
        size: tuple[int, int],
        about: Mapping[str, Any],
        tissue: TissueMask,
    ) -> Canvas:
        """Make an empty map.

        Parameters
        ----------
        folder : Path
            Not there yet, or empty.
        classes : sequence of str
        size : tuple of int
            Width and height in px.
        about : mapping
            What `RegionMap` says of itself, as JSON values; ``step`` and ``unit`` give its scale.
        tissue : TissueMask
        """
        import zarr
        from numcodecs import Blosc

        with explained(folder, "write"):
            group = zarr.open_group(str(folder), mode="a", zarr_format=2)
            shapes = level_shapes(size)
            for level, (high, wide) in enumerate(shapes):
                group.create_array(
                    str(level),
                    shape=(len(classes), high, wide),
                    dtype="uint8",
                    chunks=(1, CHUNK, CHUNK),
                    compressors=Blosc("zstd", 3, Blosc.BITSHUFFLE),
                    chunk_key_encoding={"name": "v2", "separator": "/"},
                    fill_value=0,
                    overwrite=True,
                )
            mask = group.create_array(
                TISSUE,
                shape=tissue.mask.shape,
                dtype="uint8",
                chunks=(CHUNK, CHUNK),
                fill_value=0,
                overwrite=True,
            )
            mask[...] = tissue.mask.astype(np.uint8)
            # Last, for it makes the folder a map.
            group.attrs.put(_attributes(classes, len(shapes), about))
        return cls(folder)

    @property
    def about(self) -> dict[str, Any]:
        """What was said of the map when it was made, and whether it is finished."""
        return dict(self._group.attrs[ABOUT])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        _, high, wide = self._levels[0].shape
        return int(wide), int(high)

    def chunks(self, box: Box) -> Iterator[Box]:
        """Yield the boxes of the chunks that a box meets, row by row."""
        wide, high = self.size
        for top in range(box[1] // CHUNK * CHUNK, min(box[3], high), CHUNK):
            for left in range(box[0] // CHUNK * CHUNK, min(box[2], wide), CHUNK):
                yield left, top, min(left + CHUNK, wide), min(top + CHUNK, high)

    def write(self, box: Box, pixels: NDArray[np.uint8]) -> None:
        """Write one chunk of each class; when this returns, they are on disk."""
        self._write(0, box, pixels)

    def lift(self, box: Box) -> None:
        """Bring what was written in a chunk's box to the coarser levels."""
        left, top, right, bottom = box
        fine = np.asarray(self._levels[0][:, top:bottom, left:right])
        for level in range(1, len(self._levels)):
            fine = halved(fine)
            left, top = left // 2, top // 2
            part = slice(top, top + fine.shape[1]), slice(left, left + fine.shape[2])
            with explained(self.folder, "write"):
                self._levels[level][:, *part] = fine

    def finish(self) -> None:
        """Make the coarser levels of all that was written, and note that the map is complete."""
        with explained(self.folder, "write"):
            for partial in self.folder.rglob("*.partial"):  # of writes that a kill cut short
                partial.unlink()
        for level in range(1, len(self._levels)):
            there = self._there(level) | {(y // 2, x // 2) for y, x in self._there(level - 1)}
            _, high, wide = self._levels[level].shape
            for row, column in sorted(there):
                top, left = row * CHUNK, column * CHUNK
                box = left, top, min(left + CHUNK, wide), min(top + CHUNK, high)
                fine = self._levels[level - 1][:, 2 * top : 2 * box[3], 2 * left : 2 * box[2]]
                self._write(level, box, halved(np.asarray(fine)))
        with explained(self.folder, "write"):
            self._group.attrs[ABOUT] = {**self.about, "finished": True}

    def _write(self, level: int, box: Box, pixels: NDArray[np.uint8]) -> None:
        left, top, right, bottom = box
        with explained(self.folder, "write"):
            self._levels[level][:, top:bottom, left:right] = pixels
            for kind in range(len(pixels)):
                at = self.folder / str(level) / str(kind) / str(top // CHUNK) / str(left // CHUNK)
                with contextlib.suppress(FileNotFoundError):
                    _sync(at)

    def _there(self, level: int) -> set[tuple[int, int]]:
        """Return row and column of the chunks that a level has on disk."""
        found = set()
        for path in (self.folder / str(level)).glob("*/*/*"):
            if path.name.isdigit():
                found.add((int(path.parent.name), int(path.name)))
        return found


def level_shapes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width of all levels, each half the one before, rounded up."""
    shapes = [(size[1], size[0])]
    while max(shapes[-1]) > COARSEST_PX:
        high, wide = shapes[-1]
        shapes.append((-(-high // 2), -(-wide // 2)))
    return shapes


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (k, h, w) at half the size: means of 2 x 2 px, an odd last one counts alone."""
    odd = (0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2)
    even = np.pad(pixels, odd, mode="edge")
    return np.stack([block_mean(one, 2, 2) for one in even])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _attributes(classes: Sequence[str], levels: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group's attributes; formats: OME-NGFF 0.4, `multiscales` and `omero`."""
    sx, sy = about["step"]
    ox, oy = about["origin"]
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    for name in ("y", "x"):
        axes.append({"name": name, "type": "space"})
        if about["unit"] is not None:
            axes[-1]["unit"] = about["unit"]
    datasets = []
    for level in range(levels):
        down = 2**level
        # Positions are those of px centres; the slide's first one is the origin.
        move = [0.0, oy + (down - 1) / 2 * sy, ox + (down - 1) / 2 * sx]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, down * sy, down * sx]},
                    {"type": "translation", "translation": move},
                ],
            }
        )
    channels = [
        {
            "label": name,
            "color": "{:02X}{:02X}{:02X}".format(*class_colour(name)),
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
            "active": True,
        }
        for name in classes
    ]
    title = f"Probabilities of {about['model']}"
    return {
        "multiscales": [
            {"version": "0.4", "name": title, "axes": axes, "datasets": datasets, "type": "mean"}
        ],
        "omero": {"name": title, "version": "0.4", "channels": channels},
        ABOUT: dict(about),
    }
