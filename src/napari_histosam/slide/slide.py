"""The slide as the rest of the program sees it: levels, µm, exact reads, whatever the back end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.slide.cache import TileCache
from napari_histosam.slide.resample import needed, resample
from napari_histosam.slide.units import MAX_MPP, MIN_MPP, as_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from napari_histosam.slide.memory import SlideMemory
    from napari_histosam.slide.pyramid import DisplayPyramid
    from napari_histosam.slide.source import RGB, Level, TileSource

# A read takes at most this many px of a level at once; larger windows are put together.
_BLOCK_PX = 2**24
# A thumbnail that would need more px than this of the coarsest level is sketched.
_THUMBNAIL_PX = 2**26
_THUMBNAIL_READS = 2500


class Slide:
    """An open slide.

    Coordinates are level-0 px, corner based, x right and y down. Reads return RGB uint8,
    (height, width, 3), and are safe from many threads. What lies outside of the slide, or was never
    scanned, is background.

    Parameters
    ----------
    source : TileSource
    path : Path or None
        None for an image that has no file.
    memory : SlideMemory, optional
        Where the user's pixel sizes are kept; by default ``slides.json`` in the app's home.
    """

    def __init__(
        self, source: TileSource, path: Path | None, memory: SlideMemory | None = None
    ) -> None:
        self.source = source
        self.path = path
        self._memory = memory
        self._cache: TileCache | None = None
        self._pyramids: WeakSet[DisplayPyramid] = WeakSet()
        self._mpp = source.info.mpp
        if self._mpp is None:
            try:
                self._mpp = self._slide_memory().mpp(self.identity)
            except OSError:
                # A home that cannot be made must not keep a slide from opening.
                self._mpp = None

    # What is known

    @property
    def name(self) -> str:
        """The file's name."""
        return self.source.info.name

    @property
    def format(self) -> str:
        """What kind of file it is: ``aperio``, ``ome-tiff``, ``ome-zarr``, ``png``, ..."""
        return self.source.info.format

    @property
    def vendor(self) -> str | None:
        """OpenSlide's name for the scanner's maker, or None."""
        return self.source.info.vendor

    @property
    def backend(self) -> str:
        """The library that reads the file."""
        return self.source.info.backend

    @property
    def identity(self) -> str:
        """A hash of the content: the same after the file was moved or renamed."""
        return self.source.info.identity

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that the file holds, finest first."""
        return self.source.info.levels

    @property
    def width(self) -> int:
        """Width in level-0 px."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """Height in level-0 px."""
        return self.levels[0].height

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of the blocks that level 0 is stored in."""
        return self.source.info.tile

    @property
    def mpp(self) -> tuple[float, float] | None:
        """µm per level-0 px along x and y, from the file or else as the user once said; or None."""
        return self._mpp

    @property
    def objective(self) -> float | None:
        """The scanner's nominal magnification, or None."""
        return self.source.info.objective

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """x, y, width, height of the scanned area in level-0 px, where the file tells."""
        return self.source.info.bounds

    @property
    def background(self) -> tuple[int, int, int]:
        """RGB of what is outside."""
        return self.source.info.background

    @property
    def properties(self) -> dict[str, str]:
        """The file's own key-value pairs; they can hold names and barcodes, so do not export."""
        return dict(self.source.info.properties)

    @property
    def associated(self) -> tuple[str, ...]:
        """Names of the images that come with the slide (label, macro, thumbnail, ...)."""
        return self.source.info.associated

    @property
    def icc_profile(self) -> bytes | None:
        """The scanner's colour profile, or None."""
        return self.source.info.icc_profile

    def icc_transform(self) -> Callable[[RGB], RGB] | None:
        """Return a function from raw RGB to sRGB for display, or None without a usable profile."""
        from napari_histosam.slide.icc import srgb_transform

        return srgb_transform(self.icc_profile)

    def associated_image(self, name: str) -> RGB:
        """Read an associated image; a label, which can show a name, only if it is named so."""
        try:
            return self.source.associated_image(name)
        except KeyError:
            there = ", ".join(self.associated) or "none"
            raise InputError(f"{self.name} has no image {name!r} (there are: {there}).") from None

    def set_mpp(self, x: float, y: float | None = None) -> None:
        """Set µm per level-0 px and remember it for this slide.

        At the next opening it is used if the file itself states none.

        Raises
        ------
        InputError
            Where a value is not between 0.01 and 1000, or cannot be remembered.
        """
        values = [as_number(x), as_number(x if y is None else y)]
        if any(v is None or not MIN_MPP <= v <= MAX_MPP for v in values):
            raise InputError(
                f"A pixel size of {x} x {x if y is None else y} µm is not possible;"
                f" give µm per pixel between {MIN_MPP} and {MAX_MPP:.0f}, for example 0.25."
            )
        self._mpp = (float(values[0] or 0), float(values[1] or 0))
        self._slide_memory().remember_mpp(self.identity, self._mpp)

    # Reading

    def read_region(self, x: int, y: int, level: int, w: int, h: int) -> RGB:
        """Read a box of one level, px as they are stored.

        Parameters
        ----------
        x, y : int
            Top left corner in level-0 px.
        level : int
        w, h : int
            Size in px of that level.
        """
        self._check_level(level)
        return self.source.read_region(int(x), int(y), level, int(w), int(h))

    def read_level(self, level: int, col: int, row: int, w: int, h: int) -> RGB:
        """Read a box placed by px (col, row) of the level itself."""
        self._check_level(level)
        return self.source.read_level(level, int(col), int(row), int(w), int(h))

    def read_window(
        self,
        cx: float,
        cy: float,
        mpp: float | tuple[float, float],
        size: int | tuple[int, int],
    ) -> RGB:
        """Read a window at a given µm per px, centred on level-0 px (cx, cy).

        Where the slide's own px are not square, the result's are (for one ``mpp``).

        Parameters
        ----------
        cx, cy : float
        mpp : float or tuple of float
            µm per px of the result.
        size : int or tuple of int
            Width and height of the result in px.

        Raises
        ------
        InputError
            Where the slide's pixel size is not known.
        """
        return self.read(self.window(cx, cy, mpp, size))

    def window(
        self,
        cx: float,
        cy: float,
        mpp: float | tuple[float, float],
        size: int | tuple[int, int],
    ) -> Window:
        """Return the window that `read_window` reads."""
        if self.mpp is None:
            raise InputError(
                f"{self.name} does not say how large its pixels are; set µm per pixel first."
            )
        want = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        shape = size if isinstance(size, tuple) else (size, size)
        scale = (float(want[0]) / self.mpp[0], float(want[1]) / self.mpp[1])
        return Window(float(cx), float(cy), scale, (int(shape[0]), int(shape[1])))

    def read(self, window: Window) -> RGB:
        """Read a window at any scale.

        The coarsest level that is at least as fine as the window is resampled: the exact mean of
        the area under each px when shrinking, linear interpolation when enlarging, each axis on
        its own. What is outside counts as background in the mean.
        """
        width, height = window.size
        numbers = (window.cx, window.cy, *window.scale)
        if width < 1 or height < 1 or not all(map(math.isfinite, numbers)) or min(numbers[2:]) <= 0:
            raise InputError(
                f"A window of {width} x {height} px at scale {window.scale} round"
                f" ({window.cx}, {window.cy}) is empty."
            )
        index = self.best_level(window.scale)
        sx, sy = self.levels[index].scale
        left, top, _, _ = window.bounds
        start = (left / sx, top / sy)
        step = (window.scale[0] / sx, window.scale[1] / sy)
        cols = _pieces(width, step[0], 2**12)
        rows = _pieces(height, step[1], _BLOCK_PX // 2**12)
        if len(cols) == len(rows) == 1:
            return self._resampled(index, start, step, (width, height))
        out = np.empty((height, width, 3), np.uint8)
        for y, h in rows:
            for x, w in cols:
                at = (start[0] + x * step[0], start[1] + y * step[1])
                out[y : y + h, x : x + w] = self._resampled(index, at, step, (w, h))
        return out

    def best_level(self, scale: tuple[float, float]) -> int:
        """Return the coarsest level that is not coarser than a scale (level-0 px per px)."""
        fine = [
            i
            for i, lv in enumerate(self.levels)
            if lv.scale[0] <= scale[0] * 1.005 and lv.scale[1] <= scale[1] * 1.005
        ]
        return max(fine, default=0, key=lambda i: self.levels[i].downsample)

    def thumbnail(self, max_px: int) -> RGB:
        """Return the whole slide with a longest side of at most ``max_px`` px.

        A huge slide without coarse levels is not read whole: its own thumbnail is used if it has
        one of the same aspect, else the picture is put together from 2500 sample reads.
        """
        shrink = max(self.width, self.height) / max(int(max_px), 1)
        shrink = max(shrink, 1.0)
        w, h = max(round(self.width / shrink), 1), max(round(self.height / shrink), 1)
        scale = (self.width / w, self.height / h)
        index = self.best_level(scale)
        level = self.levels[index]
        if level.width * level.height <= _THUMBNAIL_PX:
            return self.read(Window(self.width / 2, self.height / 2, scale, (w, h)))
        if "thumbnail" in self.associated:
            own = self.associated_image("thumbnail")
            aspect = own.shape[1] / own.shape[0] * self.height / self.width
            if abs(aspect - 1) < 0.02 and own.shape[1] >= w and own.shape[0] >= h:
                return resample(own, (0, 0), (0, 0), (own.shape[1] / w, own.shape[0] / h), (w, h))
        from napari_histosam.slide.sketch import sketch

        return sketch(self, index, (0, 0, level.width, level.height), (w, h), _THUMBNAIL_READS)

    def as_dask(self, level: int = 0) -> Any:
        """Return a lazy dask array (h, w, 3) uint8 of a level, exact px."""
        from napari_histosam.slide.lazy import dask_level

        self._check_level(level)
        return dask_level(self, level)

    def pyramid(self, tile: int = 512, cache: TileCache | None = None) -> DisplayPyramid:
        """Return the display pyramid: real and virtual levels as cached tiles.

        Parameters
        ----------
        tile : int
            Side of a tile in px.
        cache : TileCache, optional
            Shared between slides if given; else the slide makes its own of 512 MB.
        """
        from napari_histosam.slide.pyramid import DisplayPyramid

        if cache is None:
            self._cache = cache = self._cache or TileCache()
        pyramid = DisplayPyramid(self, tile, cache)
        self._pyramids.add(pyramid)
        return pyramid

    def close(self) -> None:
        """Let go of the file, and of the tiles that were cached for it."""
        self.source.close()
        for pyramid in list(self._pyramids):
            pyramid.forget()
        self._cache = None

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Slide {self.name} {self.format} {self.width}x{self.height}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Sent to another process, a slide is its path (opened again there) and its pixel size.
        if self.path is None:
            raise TypeError(f"{self.name} has no file and cannot be sent to another process")
        return (_reopen, (str(self.path), self._mpp))

    def _resampled(
        self,
        index: int,
        start: tuple[float, float],
        step: tuple[float, float],
        size: tuple[int, int],
    ) -> RGB:
        x0, x1 = needed(start[0], step[0], size[0])
        y0, y1 = needed(start[1], step[1], size[1])
        image = self.source.read_level(index, x0, y0, x1 - x0, y1 - y0)
        return resample(image, (x0, y0), start, step, size)

    def _check_level(self, level: int) -> None:
        if not 0 <= level < len(self.levels):
            raise InputError(f"{self.name} has no level {level}; it has {len(self.levels)}.")

    def _slide_memory(self) -> SlideMemory:
        if self._memory is None:
            from napari_histosam.home import home
            from napari_histosam.slide.memory import SlideMemory

            self._memory = SlideMemory(home() / "slides.json")
        return self._memory


def _pieces(count: int, step: float, budget: int) -> list[tuple[int, int]]:
    """Cut ``count`` output px into (first, number) runs of at most ``budget`` input px each."""
    run = max(int(budget / max(step, 1.0)), 1)
    return [(i, min(run, count - i)) for i in range(0, count, run)]


def _reopen(path: str, mpp: tuple[float, float] | None) -> Slide:
    from napari_histosam.slide.open import open_slide

    slide = open_slide(path)
    slide._mpp = mpp
    return slide
