"""The pyramid inside a TIFF file: which pages make up its levels, and their px as RGB uint8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.cache import TileCache
from napari_histosam.slide.files import SharedFile
from napari_histosam.slide.pixels import PixelFormat, to_rgb8
from napari_histosam.slide.tiff_chain import chain_is_broken
from napari_histosam.slide.tiff_plane import TiffPlane

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.slide.source import RGB

_CACHE_BYTES = 64 * 2**20
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 1, 2, 3, 5, 6, 8
# Codecs that hand out RGB whatever the photometric tag says (JPEG, Aperio and other JPEG 2000).
_TO_RGB = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 50001, 50002}


@dataclass(frozen=True)
class _Stack:
    """The planes that hold one level, and how to read their samples."""

    planes: tuple[TiffPlane, ...]
    fmt: PixelFormat


class TiffLevels:
    """The largest image of a TIFF file, with its levels finest first.

    Parameters
    ----------
    path : Path
    background : tuple of int
        RGB for what was never written.

    Raises
    ------
    InputError
        Where the file is damaged, cut short, or holds something else than RGB or gray px.
    """

    def __init__(self, path: Path, background: tuple[int, int, int]) -> None:
        self.path, self.background = path, background
        self.cache = TileCache(_CACHE_BYTES)
        self.file = SharedFile(path)
        try:
            self._parse()
        except InputError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise InputError(
                f"{path.name} is a damaged or incomplete TIFF file ({type(error).__name__}:"
                f" {error}); copy it again from its source."
            ) from error

    def _parse(self) -> None:
        import tifffile

        if chain_is_broken(self.path):
            raise InputError(
                f"{self.path.name} is cut short: parts that it lists lie past its end;"
                " copy it again from its source."
            )
        with tifffile.TiffFile(self.path) as tif:
            series = [s for s in tif.series if "Y" in s.axes and "X" in s.axes]
            if not series:
                raise InputError(f"{self.path.name} is a TIFF file without an image.")
            main = max(series, key=_area)
            self.flags = frozenset(tif.flags)
            self.index = list(tif.series).index(main)
            self.ome_xml = tif.ome_metadata if tif.is_ome else None
            first = main.keyframe
            self.tags = {
                t.name: t.value
                for t in first.tags.values()
                if isinstance(t.value, (str, int, tuple))
            }
            icc = first.tags.get(34675)
            self.icc_profile = None if icc is None else bytes(icc.value)
            self.bits = self._significant_bits(first)
            self.stacks = [self._stack(level) for level in main.levels]
            self.extra = self._associated([s for s in series if s is not main])
        self.sizes = [(s.planes[0].width, s.planes[0].height) for s in self.stacks]
        biggest = max(p.segment_bytes for s in self.stacks for p in s.planes)
        self.cache.max_bytes = max(_CACHE_BYTES, min(2 * biggest, 2**30 + 2**20))
        end = max(p.end() for s in self.stacks for p in s.planes)
        if end > self.file.size:
            raise InputError(
                f"{self.path.name} is cut short: {self.file.size} of at least {end} bytes are"
                " there; copy it again from its source."
            )

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of level 0's tiles or strips."""
        plane = self.stacks[0].planes[0]
        return (plane.seg_w, plane.seg_h)

    def read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        """Read a box inside a level: (h, w, 3) uint8."""
        return self._read(self.stacks[level], left, top, right, bottom)

    def read_extra(self, name: str) -> RGB:
        """Read an associated image whole."""
        stack = self.extra[name]
        return self._read(stack, 0, 0, stack.planes[0].width, stack.planes[0].height)

    def missing(self, level: int, left: int, top: int, right: int, bottom: int) -> bool:
        """Tell whether the file holds no data for some tile under the box."""
        return any(p.missing(left, top, right, bottom) for p in self.stacks[level].planes)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _read(self, stack: _Stack, left: int, top: int, right: int, bottom: int) -> RGB:
        # The brightest sample of an unwritten tile: white for brightfield, opaque for alpha.
        fill = 0 if stack.fmt.inverted else (1 << stack.fmt.bits) - 1
        fill = 0 if stack.fmt.kind == "palette" else fill
        parts = [p.read(left, top, right, bottom, fill) for p in stack.planes]
        raw = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return to_rgb8(raw, stack.fmt, self.background)

    def _associated(self, series: list[Any]) -> dict[str, _Stack]:
        found = {}
        for one in series:
            name = _associated_name(one.name)
            if name is not None:
                try:
                    found[name] = self._stack(one)
                except InputError:
                    # An odd label must not keep the slide from opening; it is not offered then.
                    continue
        return found

    def _significant_bits(self, page: Any) -> int | None:
        """Bits that carry meaning, where the file says so (OME SignificantBits, MaxSampleValue)."""
        if self.ome_xml:
            from napari_histosam.slide.ome import parse_ome

            images = parse_ome(self.ome_xml)
            bits = images[self.index].bits if self.index < len(images) else None
            if bits is not None:
                return bits
        tag = page.tags.get(281)
        value = None if tag is None else tag.value
        top = max(value) if isinstance(value, tuple) else value
        return int(top).bit_length() if isinstance(top, int) and top > 0 else None

    def _stack(self, level: Any) -> _Stack:
        key = level.keyframe
        name = self.path.name
        if key.dtype is None or key.dtype.kind not in "ub" or key.dtype.itemsize > 2:
            kind = key.dtype if key.dtype is not None else f"{key.bitspersample} bit"
            raise InputError(
                f"{name} holds {kind} samples; only 8- and 16-bit unsigned colour or gray images"
                " can be shown: convert it first."
            )
        if key.imagedepth > 1 or key.tiledepth > 1:
            raise InputError(f"{name} holds a volume, not a slide; export one plane of it.")
        pages = _chosen_pages(level, name)
        if any(p.parent.filehandle.name != name for p in pages):
            raise InputError(
                f"{name} spreads its image over several files; convert it to one OME-TIFF first."
            )
        planes = []
        for page in pages:
            count = int(key.samplesperpixel) if key.planarconfig == 2 else 1
            planes += [TiffPlane(page, self.file, self.cache, i) for i in range(count)]
        fmt = self._format(key, len(pages))
        if sum(p.samples for p in planes) < fmt.colours:
            raise InputError(f"{name} is a damaged TIFF file: it says two things of its samples.")
        return _Stack(tuple(planes), fmt)

    def _format(self, key: Any, pages: int) -> PixelFormat:
        samples = int(key.samplesperpixel) if pages == 1 else pages
        stored = int(key.bitspersample)
        bits = stored
        if stored > 8 and self.bits is not None and 8 <= self.bits <= stored:
            bits = self.bits
        photometric = int(key.photometric)
        if photometric == _PALETTE and pages == 1:
            return PixelFormat("palette", stored, palette=_palette(key))
        wrong = photometric in (_CMYK, _CIELAB) or (
            photometric == _YCBCR and int(key.compression) not in _TO_RGB
        )
        if wrong or samples not in (1, 2, 3, 4):
            what = f"{samples} channels" if not wrong else f"{key.photometric.name} colours"
            raise InputError(
                f"{self.path.name} holds {what}; only RGB and gray images can be shown:"
                " convert it to RGB first."
            )
        alpha = _alpha(key) if pages == 1 else None
        if samples in (2, 4) and pages > 1:
            raise InputError(
                f"{self.path.name} holds {samples} separate channels, not RGB;"
                " export it as an RGB image first."
            )
        inverted = photometric == _MINISWHITE and samples <= 2
        return PixelFormat("rgb" if samples >= 3 else "gray", bits, alpha, inverted)


def _area(series: Any) -> int:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes["Y"]) * int(sizes["X"])


def _chosen_pages(level: Any, name: str) -> list[Any]:
    """Pick the pages of one plane: first time point, middle focus, all channels."""
    key = level.keyframe
    own = len(key.axes)
    axes, shape = level.axes, level.shape
    leading = axes[: len(axes) - own] if axes.endswith(key.axes) else ""
    sizes = shape[: len(leading)]
    pages = list(level.pages)
    if int(np.prod(sizes, dtype=np.int64)) != len(pages) or any(p is None for p in pages):
        raise InputError(f"{name} lays out its planes in a way that cannot be read ({axes}).")
    at: list[Any] = []
    for axis, size in zip(leading, sizes, strict=True):
        if axis in "CS":
            at.append(slice(None))
        else:
            at.append(size // 2 if axis == "Z" else 0)
    order = np.arange(len(pages)).reshape(sizes)[tuple(at)] if leading else np.arange(len(pages))
    return [pages[i] for i in np.atleast_1d(order).ravel()]


def _alpha(key: Any) -> Any:
    extra = tuple(int(e) for e in key.extrasamples)
    return {1: "premultiplied", 2: "straight"}.get(extra[0]) if extra else None


def _palette(key: Any) -> np.ndarray:
    colours = np.asarray(key.colormap).T
    # By the standard entries are 16 bit; some writers store 8-bit values there.
    return np.ascontiguousarray(colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _associated_name(name: str) -> str | None:
    word = (name or "").strip().lower().removesuffix(" image")
    return word if word in ("label", "macro", "thumbnail", "overview") else None
