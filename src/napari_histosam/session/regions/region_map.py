"""A map of probabilities as it lies on disk: what it is, and reads of any part at any level."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.session.regions.canvas import ABOUT, CHUNK, TISSUE
from napari_histosam.slide import TissueMask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window


class RegionMap:
    """How likely each px of a slide is of each class; of a run that has ended or is under way.

    Map px lie on the slide's upper left corner and are ``scale`` level-0 px wide and high. Values
    are probabilities in steps of 1/255; 0 where no window was looked at.

    Parameters
    ----------
    folder : Path
        The OME-Zarr's.

    Raises
    ------
    InputError
        If there is no map of ours.
    """

    def __init__(self, folder: Path) -> None:
        import zarr

        about = about_folder(folder)
        if about is None:
            raise InputError(f"{folder} is no map of regions; name the folder that a run wrote.")
        self.folder = folder
        self.about: dict[str, Any] = about
        try:
            group: Any = zarr.open_group(str(folder), mode="r", zarr_format=2)
            count = len(group.attrs["multiscales"][0]["datasets"])
            self._levels: list[Any] = [group[str(level)] for level in range(count)]
            self._tissue: Any = group[TISSUE]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"The map {folder} is incomplete ({error}); remove it and run again."
            ) from error

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the channels."""
        return tuple(self.about["classes"])

    @property
    def finished(self) -> bool:
        """Whether the run had ended when this was opened."""
        return bool(self.about["finished"])

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of every level, finest first."""
        return [(int(level.shape[1]), int(level.shape[2])) for level in self._levels]

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 px of the slide per map px along x and y."""
        sx, sy = self.about["scale"]
        return float(sx), float(sy)

    @property
    def px_um(self) -> tuple[float, float] | None:
        """µm per map px along x and y; None on a slide whose scale is not known."""
        if self.about["unit"] is None:
            return None
        sx, sy = self.about["step"]
        return float(sx), float(sy)

    @property
    def region(self) -> BaseGeometry | None:
        """The part that was asked for, level-0 px; None for the whole slide."""
        import shapely

        text = self.about["plan"]["region"]
        return None if text == "whole" else shapely.from_wkt(text)

    @property
    def tissue(self) -> TissueMask:
        """Where there is anything but glass, as the run saw it."""
        mask = np.asarray(self._tissue[...]) > 0
        wide, high = self.about["plan"]["slide_size"]
        return TissueMask(mask, (wide / mask.shape[1], high / mask.shape[0]))

    def written(self) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of what is not all zero, in map px, whole chunks."""
        high, wide = self.shapes[0]
        rows, columns = [], []
        for path in (self.folder / "0").glob("*/*/*"):
            if path.name.isdigit():
                rows.append(int(path.parent.name))
                columns.append(int(path.name))
        if not rows:
            return 0, 0, 0, 0
        right, bottom = (max(columns) + 1) * CHUNK, (max(rows) + 1) * CHUNK
        return min(columns) * CHUNK, min(rows) * CHUNK, min(right, wide), min(bottom, high)

    def read(self, level: int, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return rows and columns of a level, (k, h, w); what is outside of it is 0."""
        high, wide = self.shapes[level]
        out = np.zeros((len(self.classes), max(bottom - top, 0), max(right - left, 0)), np.uint8)
        y0, y1, x0, x1 = max(top, 0), min(bottom, high), max(left, 0), min(right, wide)
        if y0 < y1 and x0 < x1:
            try:
                found = np.asarray(self._levels[level][:, y0:y1, x0:x1])
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"A chunk of the map {self.folder} cannot be read ({error}); remove the map "
                    "and run again."
                ) from error
            out[:, y0 - top : y1 - top, x0 - left : x1 - left] = found
        return out

    def read_window(self, window: Window) -> NDArray[np.float32]:
        """Return the probabilities of a window of the slide, (k, h, w), the nearest px of each."""
        width, height = window.size
        down = min(s / m for s, m in zip(window.scale, self.scale, strict=True))
        level = int(np.clip(np.floor(np.log2(max(down, 1.0))), 0, len(self._levels) - 1))
        left, top, _, _ = window.bounds
        at = []
        for axis, count, begin in ((0, width, left), (1, height, top)):
            middle = begin + (np.arange(count) + 0.5) * window.scale[axis]
            at.append(np.floor(middle / (self.scale[axis] * 2**level)).astype(np.int64))
        x, y = at
        found = self.read(level, int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1)
        return found[:, y - y[0]][:, :, x - x[0]].astype(np.float32) / np.float32(255)

    def thumbnail(self) -> NDArray[np.float32]:
        """Return the coarsest level, (k, h, w), 0 to 1; its longest side has at most 1024 px."""
        high, wide = self.shapes[-1]
        whole = self.read(len(self._levels) - 1, 0, high, 0, wide)
        return whole.astype(np.float32) / np.float32(255)


def about_folder(folder: Path) -> dict[str, Any] | None:
    """Return what the map in a folder says of itself; None if there is none of ours."""
    try:
        found = json.loads((folder / ".zattrs").read_text("utf-8")).get(ABOUT)
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(found, dict) or found.get("kind") != "regions":
        return None
    return found
