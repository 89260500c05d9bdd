"""What every back end offers: one file's levels, facts and exact pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    RGB = NDArray[np.uint8]

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Parameters
    ----------
    width, height : int
        Size in px of this level.
    downsample : float
        Level-0 px per px of this level, the mean of both axes (as OpenSlide defines it).
    scale : tuple of float
        Level-0 px per px of this level along x and y, each exact.
    """

    width: int
    height: int
    downsample: float
    scale: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return (self.height, self.width)


def levels_from_sizes(
    sizes: Sequence[tuple[int, int]], downsamples: Sequence[float] | None = None
) -> tuple[Level, ...]:
    """Make levels from (width, height) pairs, finest first.

    ``downsamples`` gives what a library states; without it the mean of both axes' ratios is used.
    """
    width0, height0 = sizes[0]
    out = []
    for i, (width, height) in enumerate(sizes):
        scale = (width0 / width, height0 / height)
        mean = (scale[0] + scale[1]) / 2 if downsamples is None else float(downsamples[i])
        out.append(Level(int(width), int(height), mean, scale))
    return tuple(out)


@dataclass(frozen=True)
class SourceInfo:
    """What a back end knows of its file.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    format, vendor, backend : str
        For example ``"aperio"``, ``"aperio"``, ``"openslide"``; vendor may be None.
    identity : str
        Derived from the content: survives moving and renaming.
    levels : tuple of Level
        Finest first; level 0 defines the coordinate frame.
    tile : tuple of int
        Width and height in px of the blocks that the file is stored in (a hint for readers).
    mpp : tuple of float, optional
        µm per level-0 px along x and y.
    objective : float, optional
        Nominal magnification.
    bounds : tuple of int, optional
        x, y, width, height of the scanned area, level-0 px.
    background : tuple of int
        RGB that fills what lies outside or was never scanned.
    properties : mapping of str to str
        The file's own key-value pairs.
    associated : tuple of str
        Names of label, macro, thumbnail and the like.
    icc_profile : bytes, optional
    """

    name: str
    format: str
    backend: str
    identity: str
    levels: tuple[Level, ...]
    vendor: str | None = None
    tile: tuple[int, int] = (512, 512)
    mpp: tuple[float, float] | None = None
    objective: float | None = None
    bounds: tuple[int, int, int, int] | None = None
    background: tuple[int, int, int] = WHITE
    properties: Mapping[str, str] = field(default_factory=dict)
    associated: tuple[str, ...] = ()
    icc_profile: bytes | None = field(default=None, repr=False)


@runtime_checkable
class TileSource(Protocol):
    """One back end's view of one file; all reads are safe from many threads."""

    @property
    def info(self) -> SourceInfo:
        """What is known of the file."""
        ...

    def read_level(self, level: int, col: int, row: int, width: int, height: int) -> RGB:
        """Read from px (col, row) of a level; outside is background; (height, width, 3) uint8."""
        ...

    def read_region(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
        """Read as `read_level` does, but placed by level-0 px (x, y)."""
        ...

    def associated_image(self, name: str) -> RGB:
        """Read an associated image, (h, w, 3) uint8; KeyError where there is none."""
        ...

    def close(self) -> None:
        """Let go of the file; reads that are under way may still end well."""
        ...


class LevelReader:
    """What the back ends share whose levels can be read box by box: clipping and placing.

    A back end sets ``info`` and gives `_read`.
    """

    info: SourceInfo

    def read_level(self, level: int, col: int, row: int, width: int, height: int) -> RGB:
        """Read from px (col, row) of a level; only what lies under the box is decoded."""
        size = self.info.levels[level]
        return read_clipped(
            lambda a, b, c, d: self._read(level, a, b, c, d),
            (size.width, size.height),
            (col, row, width, height),
            self.info.background,
        )

    def read_region(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
        """Read from the px of a level whose corner is nearest to level-0 px (x, y)."""
        col, row = nearest_px(self.info, level, x, y)
        return self.read_level(level, col, row, width, height)

    def associated_image(self, name: str) -> RGB:
        """Raise KeyError, for most formats keep no associated images."""
        raise KeyError(name)

    def _read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        """Return the px of a box that lies within the level, (h, w, 3) uint8."""
        raise NotImplementedError


def nearest_px(info: SourceInfo, level: int, x: int, y: int) -> tuple[int, int]:
    """Return the px (col, row) of a level whose corner lies nearest to level-0 px (x, y)."""
    sx, sy = info.levels[level].scale
    return (int(np.floor(x / sx + 0.5)), int(np.floor(y / sy + 0.5)))


def read_clipped(
    inside: Callable[[int, int, int, int], NDArray[np.uint8]],
    size: tuple[int, int],
    at: tuple[int, int, int, int],
    background: tuple[int, int, int],
) -> RGB:
    """Read a box that may reach outside, filling what is outside with background.

    Parameters
    ----------
    inside : callable
        Given left, top, right, bottom within the level, returns (h, w, 3) uint8.
    size : tuple of int
        Width and height of the level.
    at : tuple of int
        col, row, width, height of the wanted box.
    background : tuple of int
        RGB.
    """
    col, row, width, height = at
    check_box(width, height)
    left, top = max(col, 0), max(row, 0)
    right, bottom = min(col + width, size[0]), min(row + height, size[1])
    if left >= right or top >= bottom:
        return filled(width, height, background)
    got = inside(left, top, right, bottom)
    if got.shape[:2] == (height, width):
        return np.ascontiguousarray(got)
    out = filled(width, height, background)
    out[top - row : bottom - row, left - col : right - col] = got
    return out


def filled(width: int, height: int, colour: tuple[int, int, int]) -> RGB:
    """Return a (height, width, 3) uint8 image of one colour."""
    out = np.empty((height, width, 3), np.uint8)
    out[:] = colour
    return out


def check_box(width: int, height: int) -> None:
    """Refuse a negative size."""
    if width < 0 or height < 0:
        raise InputError(f"A region cannot have a size of {width} x {height} px.")
