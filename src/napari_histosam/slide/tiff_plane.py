"""Reads boxes of one TIFF page, segment by segment: tiles, strips, planar samples, raw rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_histosam.slide.cache import TileCache
    from napari_histosam.slide.files import SharedFile

# A strip or tile of more decoded bytes than this is refused: one click would need it whole.
MAX_SEGMENT = 2**30


class TiffPlane:
    """One page, or one sample plane of a page with separate planes.

    Parameters
    ----------
    page : tifffile.TiffPage or TiffFrame
    file : SharedFile
        Gives the bytes; safe from many threads.
    cache : TileCache
        Keeps decoded segments, so that neighbouring boxes do not decode them again.
    plane : int
        Which sample plane, where the page keeps them apart.
    """

    def __init__(self, page: Any, file: SharedFile, cache: TileCache, plane: int = 0) -> None:
        key = page.keyframe
        self._file, self._cache = file, cache
        self.width, self.height = int(key.imagewidth), int(key.imagelength)
        self.samples = int(key.samplesperpixel) if key.planarconfig == 1 else 1
        self.dtype = np.dtype(key.dtype)
        self._decode = key.decode
        self._tables = {"jpegtables": key.jpegtables, "jpegheader": key.jpegheader}
        if key.is_tiled:
            self.seg_w, self.seg_h = int(key.tilewidth), int(key.tilelength)
        else:
            self.seg_w, self.seg_h = self.width, min(int(key.rowsperstrip), self.height)
        self._across = -(-self.width // self.seg_w)
        down = -(-self.height // self.seg_h)
        first = plane * self._across * down
        last = first + self._across * down
        self._first = first
        self._offsets = np.asarray(page.dataoffsets[first:last], np.int64)
        self._counts = np.asarray(page.databytecounts[first:last], np.int64)
        if len(self._offsets) < self._across * down:
            raise InputError(f"{file.path.name} lists fewer tiles than its size needs: damaged.")
        self._raw = (
            key.compression == 1
            and not key.is_tiled
            and key.predictor == 1
            and key.fillorder == 1
            and key.bitspersample == 8 * self.dtype.itemsize
        )
        self._file_dtype = self.dtype.newbyteorder(key.parent.byteorder)
        self.segment_bytes = self.seg_w * self.seg_h * self.samples * self.dtype.itemsize
        if self.segment_bytes > MAX_SEGMENT and not self._raw:
            raise InputError(
                f"{file.path.name} is stored as one compressed block of"
                f" {self.segment_bytes / 2**30:.1f} GiB; convert it to a tiled TIFF first."
            )

    def end(self) -> int:
        """Return the file position after the last byte of the data."""
        used = (self._offsets > 0) & (self._counts > 0)
        return int((self._offsets + self._counts)[used].max(initial=0))

    def missing(self, left: int, top: int, right: int, bottom: int) -> bool:
        """Tell whether a tile under the box was never written."""
        rows = np.arange(top // self.seg_h, -(-bottom // self.seg_h))
        cols = np.arange(left // self.seg_w, -(-right // self.seg_w))
        return bool((self._counts[rows[:, None] * self._across + cols] == 0).any())

    def read(self, left: int, top: int, right: int, bottom: int, fill: int) -> NDArray[Any]:
        """Read a box inside the page: (h, w, samples) of the page's dtype.

        ``fill`` stands where the file holds no tile.
        """
        out = np.empty((bottom - top, right - left, self.samples), self.dtype)
        for row in range(top // self.seg_h, -(-bottom // self.seg_h)):
            y = row * self.seg_h
            t, b = max(top, y), min(bottom, y + self.seg_h)
            for col in range(left // self.seg_w, -(-right // self.seg_w)):
                x = col * self.seg_w
                lft, rgt = max(left, x), min(right, x + self.seg_w)
                target = out[t - top : b - top, lft - left : rgt - left]
                index = row * self._across + col
                if self._counts[index] == 0 or self._offsets[index] == 0:
                    target[:] = fill
                elif self._raw:
                    self._raw_rows(index, (lft, t - y, rgt, b - y), target)
                else:
                    segment = self._segment(index)
                    target[:] = segment[t - y : b - y, lft - x : rgt - x]
        return out

    def _segment(self, index: int) -> NDArray[Any]:
        def make() -> NDArray[Any]:
            data = self._file.read(int(self._offsets[index]), int(self._counts[index]))
            decoded = self._decode(data, self._first + index, **self._tables)[0]
            # One depth slice; a copy where the decoder returned a view of its input bytes.
            return np.array(decoded[0], self.dtype, copy=not decoded.flags.owndata)

        try:
            return self._cache.get_or_make((self._file.token, id(self), index), make)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"A tile of {self._file.path.name} cannot be decoded: the file is damaged or"
                f" incomplete ({type(error).__name__}); copy it again from its source."
            ) from error

    def _raw_rows(self, index: int, box: tuple[int, int, int, int], target: NDArray[Any]) -> None:
        """Read only the wanted rows of an uncompressed strip, and only their wanted part."""
        left, top, right, bottom = box
        px = self.samples * self.dtype.itemsize
        stride = self.width * px
        start = int(self._offsets[index])
        if (right - left) * 2 >= self.width or (right - left) * px > 2**16:
            rows = self._file.read(start + top * stride, (bottom - top) * stride)
            block = np.frombuffer(rows, self._file_dtype)
            shaped = block.reshape(bottom - top, self.width, self.samples)
            target[:] = shaped[:, left:right]
            return
        for i in range(top, bottom):
            line = self._file.read(start + i * stride + left * px, (right - left) * px)
            shaped = np.frombuffer(line, self._file_dtype)
            target[i - top] = shaped.reshape(right - left, self.samples)
