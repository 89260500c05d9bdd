"""Slides of scanner vendors, read by the OpenSlide library."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.identity import file_identity
from napari_histosam.slide.source import (
    WHITE,
    SourceInfo,
    check_box,
    filled,
    levels_from_sizes,
    read_clipped,
)
from napari_histosam.slide.units import as_number, mpp_from_density, plausible_mpp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from PIL.Image import Image

    from napari_histosam.slide.source import RGB
    from napari_histosam.slide.tiff_levels import TiffLevels

T = TypeVar("T")
# Decoded tiles that OpenSlide keeps: enough for a display tile's row of stored tiles, which in
# formats with full-width strips is a lot.
_CACHE_BYTES = (32 * 2**20, 256 * 2**20)


def vendor_of(path: Path) -> str | None:
    """Return OpenSlide's name for a file's format, or None where it does not know it."""
    import openslide

    try:
        return openslide.OpenSlide.detect_format(path)
    except (openslide.OpenSlideError, OSError, ValueError):
        return None


class OpenSlideSource:
    """A file that OpenSlide reads.

    Parameters
    ----------
    path : Path
    opener : callable, optional
        Opens a handle; tests put a failing one here.

    Notes
    -----
    An OpenSlide handle that met an error answers every later call with that error. Reads therefore
    run on a handle that is replaced once when it fails; the old one is freed when the last thread
    that uses it lets go.
    """

    def __init__(self, path: Path, opener: Callable[[Path], Any] | None = None) -> None:
        import openslide

        self._path = path
        self._error = openslide.OpenSlideError
        self._opener = opener or openslide.OpenSlide
        self._cache: Any = None
        self._lock = threading.Lock()
        self._handle: Any = None
        self._closed = False
        try:
            self._handle = self._fresh()
            self.info = self._describe(self._handle)
        except (self._error, OSError) as error:
            raise InputError(_refusal(path, error)) from error
        width, height = self.info.tile
        least, most = _CACHE_BYTES
        row = 4 * width * (512 + height)
        self._cache = openslide.OpenSlideCache(min(max(row, least), most))
        self._handle.set_cache(self._cache)
        self._pages = self._trusted_pages()

    def read_region(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
        """Read what OpenSlide reads at level-0 px (x, y), laid on the background."""
        check_box(width, height)
        if width == 0 or height == 0:
            return filled(width, height, self.info.background)
        at, size = (int(x), int(y)), (int(width), int(height))
        return self._flat(self._try(lambda h: h.read_region(at, level, size)))

    def read_level(self, level: int, col: int, row: int, width: int, height: int) -> RGB:
        """Read from px (col, row) of a level.

        Where a level's downsample is not whole, OpenSlide itself would interpolate between px
        (its positions are level-0 px); the page of the TIFF file is then read in its place. Where
        there is no such page, the read starts at the nearest level-0 px, at most half of one away.
        """
        pages = self._pages.get(level)
        if pages is not None:
            boxes = read_clipped(
                lambda a, b, c, d: self._page(pages, level, a, b, c, d),
                (self.info.levels[level].width, self.info.levels[level].height),
                (col, row, width, height),
                self.info.background,
            )
            return boxes
        down = self.info.levels[level].downsample
        return self.read_region(round(col * down), round(row * down), level, width, height)

    def associated_image(self, name: str) -> RGB:
        """Read label, macro, thumbnail, ..., laid on the background."""
        if name not in self.info.associated:
            raise KeyError(name)
        return self._flat(self._try(lambda h: h.associated_images[name]))

    def close(self) -> None:
        """Let go of the handle; it is freed when the last running read has ended."""
        with self._lock:
            self._handle, self._closed = None, True
        for pages in set(self._pages.values()):
            pages.close()

    def _fresh(self) -> Any:
        handle = self._opener(self._path)
        if self._cache is not None:
            handle.set_cache(self._cache)
        return handle

    def _try(self, call: Callable[[Any], T]) -> T:
        handle = self._current()
        try:
            return call(handle)
        except (self._error, OSError):
            pass
        try:
            return call(self._replace(handle))
        except (self._error, OSError) as error:
            raise InputError(
                f"{self._path.name} cannot be read here ({error}); the file is damaged or its"
                " drive went away: check it and try again."
            ) from error

    def _current(self) -> Any:
        with self._lock:
            if self._closed:
                raise InputError(f"{self._path.name} is closed; open it again.")
            return self._handle

    def _replace(self, failed: Any) -> Any:
        with self._lock:
            if self._closed:
                raise InputError(f"{self._path.name} is closed; open it again.")
            # Another thread may have replaced the failed handle already.
            if self._handle is failed:
                self._handle = self._fresh()
            return self._handle

    def _flat(self, image: Image) -> RGB:
        from PIL import Image as PIL

        pixels = np.asarray(image)
        if pixels[..., 3].min() == 255:
            return np.ascontiguousarray(pixels[..., :3])
        under = PIL.new("RGB", image.size, self.info.background)
        under.paste(image, mask=image.getchannel("A"))
        return np.array(under)

    def _page(self, pages: TiffLevels, level: int, a: int, b: int, c: int, d: int) -> RGB:
        if pages.missing(level, a, b, c, d):
            # OpenSlide shows unwritten tiles by its own rules; leave them to it.
            down = self.info.levels[level].downsample
            return self.read_region(round(a * down), round(b * down), level, c - a, d - b)
        return pages.read(level, a, b, c, d)

    def _trusted_pages(self) -> dict[int, TiffLevels]:
        """Find the TIFF pages behind levels whose downsample is not whole, and check them."""
        odd = [i for i, lv in enumerate(self.info.levels) if not lv.downsample.is_integer()]
        if not odd or self.info.format not in ("aperio", "generic-tiff"):
            return {}
        from napari_histosam.slide.tiff_levels import TiffLevels

        try:
            pages = TiffLevels(self._path, self.info.background)
        except InputError:
            return {}
        good = {}
        for i in odd:
            level = self.info.levels[i]
            if i >= len(pages.sizes) or pages.sizes[i] != (level.width, level.height):
                continue
            w, h = min(64, level.width), min(64, level.height)
            if np.array_equal(pages.read(i, 0, 0, w, h), self.read_region(0, 0, i, w, h)):
                good[i] = pages
        if not good:
            pages.close()
        return good

    def _describe(self, handle: Any) -> SourceInfo:
        # A key that is not UTF-8 (some NDPI have them) cannot be looked up: leave it out.
        found = {str(k): handle.properties.get(k) for k in handle.properties}
        props = {k: str(v) for k, v in found.items() if v is not None}
        vendor = props.get("openslide.vendor", "openslide")
        hashed = props.get("openslide.quickhash-1")
        tile = [as_number(props.get(f"openslide.level[0].tile-{a}")) for a in ("width", "height")]
        return SourceInfo(
            name=self._path.name,
            format=vendor,
            vendor=vendor,
            backend="openslide",
            identity=hashed or file_identity(self._path),
            levels=levels_from_sizes(handle.level_dimensions, handle.level_downsamples),
            tile=(int(tile[0] or 512), int(tile[1] or 512)),
            mpp=_mpp(props, vendor),
            objective=as_number(props.get("openslide.objective-power")) or None,
            bounds=_bounds(props),
            background=_background(props),
            properties=props,
            associated=tuple(sorted(handle.associated_images)),
            icc_profile=_icc(handle),
        )


def _mpp(props: Mapping[str, str], vendor: str) -> tuple[float, float] | None:
    unit = {"inch": 25400.0, "centimeter": 1e4}.get(props.get("tiff.ResolutionUnit", ""))
    if vendor == "generic-tiff" and unit is not None:
        # OpenSlide takes the resolution tags of a generic TIFF as they are, 72 dpi included.
        return mpp_from_density(props.get("tiff.XResolution"), props.get("tiff.YResolution"), unit)
    return plausible_mpp(props.get("openslide.mpp-x"), props.get("openslide.mpp-y"))


def _bounds(props: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    keys = ("x", "y", "width", "height")
    values = [as_number(props.get(f"openslide.bounds-{k}")) for k in keys]
    x, y, w, h = values
    if x is None or y is None or not w or not h or w < 0 or h < 0:
        return None
    return (int(x), int(y), int(w), int(h))


def _background(props: Mapping[str, str]) -> tuple[int, int, int]:
    text = props.get("openslide.background-color", "").lstrip("#")
    try:
        value = int(text, 16) if len(text) == 6 else None
    except ValueError:
        value = None
    return WHITE if value is None else (value >> 16, value >> 8 & 255, value & 255)


def _icc(handle: Any) -> bytes | None:
    profile = handle.color_profile
    return None if profile is None else bytes(profile.tobytes())


def _refusal(path: Path, error: Exception) -> str:
    return (
        f"{path.name} looks like a slide but cannot be opened ({error}); it may be incomplete:"
        " copy it again with all its files."
    )
