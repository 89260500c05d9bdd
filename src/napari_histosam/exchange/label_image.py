"""Write label images piece by piece (PNG, TIFF) and read their pixels, within limits."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import explained
from napari_histosam.geometry.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Render = Callable[[int, int, int, int], NDArray[Any]]

TILE = 512
PIXEL_LIMIT = 2**30
"""Pixels that a label image to be read may have."""

_STRIP_BYTES = 16 * 1024**2
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_png(
    path: Path, size: tuple[int, int], render: Render, note: str, um: tuple[float, float] | None
) -> None:
    """Write a 16-bit grey PNG, strip by strip.

    Parameters
    ----------
    path : Path
    size : (int, int)
        Width and height in px.
    render : callable
        ``render(x, y, w, h)`` returns the (h, w) uint16 labels of a rectangle.
    note : str
        ASCII; kept in a text chunk.
    um : (float, float), optional
        µm per px along x and y.

    Notes
    -----
    W3C PNG: big-endian samples; filter 2 ("up") suits labels, which repeat from row to row.
    """
    w, h = size
    rows = max(1, min(h, _STRIP_BYTES // (2 * w)))
    packer = zlib.compressobj(6)
    above = np.zeros((1, 2 * w), np.uint8)
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 0, 0, 0, 0))
        if um is not None:
            per_metre = [min(round(1e6 / v), 2**31 - 1) for v in um]
            _chunk(file, b"pHYs", struct.pack(">IIB", *per_metre, 1))
        _chunk(file, b"tEXt", b"histosam\0" + note.encode("ascii"))
        for y in range(0, h, rows):
            strip = render(0, y, w, min(rows, h - y)).astype(">u2").view(np.uint8)
            lines = np.empty((len(strip), 2 * w + 1), np.uint8)
            lines[:, 0] = 2
            lines[:, 1:] = strip - np.vstack([above, strip[:-1]])
            above = strip[-1:]
            _chunk(file, b"IDAT", packer.compress(lines.tobytes()))
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def write_tiff(
    path: Path,
    size: tuple[int, int],
    dtype: np.dtype[Any],
    render: Render,
    note: str,
    um: tuple[float, float] | None,
) -> None:
    """Write a tiled, deflated grey TIFF, tile by tile; BigTIFF where it may pass 4 GB.

    Parameters
    ----------
    path, size, render, note, um
        As in `write_png`; labels of ``dtype``.
    dtype : dtype
        uint16 or uint32.
    """
    import tifffile

    w, h = size

    def tiles() -> Iterator[NDArray[Any]]:
        for y in range(0, h, TILE):
            for x in range(0, w, TILE):
                tile = np.zeros((TILE, TILE), dtype)
                part = render(x, y, min(TILE, w - x), min(TILE, h - y))
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile

    resolution = (1.0, 1.0) if um is None else (1e4 / um[0], 1e4 / um[1])
    with tifffile.TiffWriter(path, bigtiff=w * h * dtype.itemsize > 2**31) as writer:
        writer.write(
            tiles(),
            shape=(h, w),
            dtype=dtype,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="minisblack",
            resolution=resolution,
            resolutionunit="NONE" if um is None else "CENTIMETER",
            description=note,
            software="napari-histosam",
            metadata=None,
        )


def read_pixels(path: Path, limit: int = PIXEL_LIMIT) -> tuple[NDArray[Any], Window | None]:
    """Read a label image.

    Parameters
    ----------
    path : Path
        PNG or TIFF (told by content); of a TIFF the first page.
    limit : int
        Pixels at most.

    Returns
    -------
    labels : (h, w) unsigned or signed integers, or bool
    window : Window or None
        Where it lies on the slide, if this project wrote it.

    Raises
    ------
    InputError
        If it is damaged, too large, or has colour channels or fractions.
    """
    path = Path(path)
    with explained(path, "read"), path.open("rb") as file:
        head = file.read(33)
    try:
        if head[:8] == _SIGNATURE and len(head) == 33:
            labels, note = _read_png(path, head, limit)
        elif head[:2] in (b"II", b"MM"):
            labels, note = _read_tiff(path, limit)
        else:
            raise InputError(f"{path.name} is neither PNG nor TIFF; choose a label image.")
    except (InputError, OSError):
        raise
    except Exception as error:  # the decoders have many error classes of their own
        raise InputError(
            f"{path.name} is damaged or of a kind that cannot be read ({error}); export it again."
        ) from error
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise InputError(
            f"{path.name} is no label image: it needs one channel of whole numbers, "
            "0 for background."
        )
    return labels, _window(note, labels.shape)


def _read_png(path: Path, head: bytes, limit: int) -> tuple[NDArray[Any], str]:
    w, h, _, kind = struct.unpack(">IIBB", head[16:26])
    _check_size(path, w * h, limit)
    note = _png_note(path)
    if kind == 3:  # a palette: the indices are the labels
        from PIL import Image

        with Image.open(path) as image:
            return np.asarray(image), note
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes())), note


def _read_tiff(path: Path, limit: int) -> tuple[NDArray[Any], str]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        _check_size(path, int(np.prod(page.shape)), limit)
        return np.squeeze(page.asarray()), page.description


def _check_size(path: Path, pixels: int, limit: int) -> None:
    if pixels > limit:
        raise InputError(
            f"{path.name} has {pixels:,} pixels, more than {limit:,}; export a coarser level."
        )


def _png_note(path: Path) -> str:
    """Return our text chunk, which stands before the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND") or length > 2**20:
                break
            body = file.read(length + 4)[:-4]
            if kind == b"tEXt" and body.startswith(b"histosam\0"):
                return body[9:].decode("ascii", "replace")
    return ""


def _window(note: str, shape: tuple[int, ...]) -> Window | None:
    try:
        window = Window.from_dict(json.loads(note)["window"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return window if window.size == (shape[1], shape[0]) else None


def _chunk(file: Any, kind: bytes, body: bytes) -> None:
    if body or kind != b"IDAT":
        crc = zlib.crc32(kind + body)
        file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc))
