"""Writes a synthetic gigapixel slide of real tissue in a second: a mosaic of shared tiles.

A square of the shipped sample is repeated over the whole plane. Every level stores its few
different JPEG tiles once, and all tile offsets of the (Big)TIFF point at them, so the file stays
small while readers decode each tile as if it were its own. Layout: BigTIFF (TIFF 6.0 with 64-bit
offsets), tiled, JPEG, one directory per level, as OpenSlide's generic TIFF, tifffile and QuPath
read it. Run ``python benchmarks/make_pyramid.py OUT.tif --width 100000 --height 80000 --step 2``.
"""

from __future__ import annotations

import argparse
import io
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = Path(__file__).parents[1] / "sample_data" / "CMU-1-Small-Region.svs"
_SHORT, _LONG, _RATIONAL, _LONG8 = 3, 4, 5, 16
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}


def make_pyramid(
    path: str | os.PathLike[str],
    width: int = 100_000,
    height: int = 80_000,
    step: int = 2,
    tile: int = 256,
    mpp: float = 0.25,
    period: int = 2048,
    smallest: int = 1024,
    sample: str | os.PathLike[str] = SAMPLE,
) -> list[tuple[int, int]]:
    """Write the pyramid and return its level sizes (width, height).

    Parameters
    ----------
    path : path
    width, height : int
        Size of level 0 in px.
    step : int
        Ratio between levels, 2 or 4; 0 writes level 0 only.
    tile, period : int
        Side of a tile, and of the repeated square of tissue (a multiple of the tile), in px.
    mpp : float
        µm per level-0 px.
    smallest : int
        Levels are added until the longest side is at most this.
    sample : path
        The slide that the tissue is taken from; at least ``period`` px in both directions.
    """
    block = _tissue(sample, period)
    sizes, factor = [(width, height)], 1
    blocks = [block]
    while step and max(sizes[-1]) > smallest:
        factor *= step
        sizes.append((width // factor, height // factor))
        blocks.append(_shrunk(blocks[-1], step))
    target = Path(path)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8  # where the position of the next directory has to be written
        for i, (size, pixels) in enumerate(zip(sizes, blocks, strict=True)):
            offsets, counts = _write_tiles(file, pixels, size, tile)
            link = _write_directory(file, link, i > 0, size, tile, mpp * step**i, offsets, counts)
    os.replace(part, target)
    return sizes


def _tissue(sample: str | os.PathLike[str], period: int) -> NDArray[np.uint8]:
    import openslide

    with openslide.OpenSlide(sample) as slide:
        # The lower part of the shipped sample is tissue, its upper left is glass.
        width, height = slide.dimensions
        at = ((width - period) // 2, height - period)
        return np.asarray(slide.read_region(at, 0, (period, period)).convert("RGB"))


def _shrunk(block: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    side = max(block.shape[0] // step, 1)
    mean = block[: side * step, : side * step].reshape(side, -1, side, block.shape[1] // side, 3)
    return np.floor(mean.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def _write_tiles(
    file: io.BufferedWriter, block: NDArray[np.uint8], size: tuple[int, int], tile: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Write the different tiles of a level; return offset and byte count of every tile."""
    across, down = -(-size[0] // tile), -(-size[1] // tile)
    repeat = max(block.shape[0] // tile, 1)
    if block.shape[0] < tile:
        copies = -(-tile // block.shape[0])
        block = np.tile(block, (copies, copies, 1))
    where = np.zeros((repeat, repeat), np.uint64)
    length = np.zeros((repeat, repeat), np.uint32)
    for r in range(min(repeat, down)):
        for c in range(min(repeat, across)):
            pixels = block[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile]
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=85, subsampling="4:2:0")
            where[r, c] = file.tell()
            length[r, c] = file.write(buffer.getvalue())
    rows, cols = np.arange(down)[:, None] % repeat, np.arange(across) % repeat
    return where[rows, cols].ravel(), length[rows, cols].ravel()


def _write_directory(
    file: io.BufferedWriter,
    link: int,
    reduced: bool,
    size: tuple[int, int],
    tile: int,
    mpp: float,
    offsets: NDArray[np.uint64],
    counts: NDArray[np.uint32],
) -> int:
    """Write one level's directory, hook it to the one before; return where the next hooks in."""
    per_cm = (round(1e7 / mpp), 1000)
    tags = [
        (254, _LONG, [int(reduced)]),
        (256, _LONG, [size[0]]),
        (257, _LONG, [size[1]]),
        (258, _SHORT, [8, 8, 8]),
        (259, _SHORT, [7]),  # JPEG
        (262, _SHORT, [6]),  # YCbCr
        (277, _SHORT, [3]),
        (282, _RATIONAL, per_cm),
        (283, _RATIONAL, per_cm),
        (284, _SHORT, [1]),
        (296, _SHORT, [3]),  # centimetre
        (322, _LONG, [tile]),
        (323, _LONG, [tile]),
        (324, _LONG8, offsets),
        (325, _LONG, counts),
        (530, _SHORT, [2, 2]),
    ]
    entries = b""
    for code, kind, values in tags:
        if kind == _RATIONAL:
            raw, count = struct.pack("<II", *values), 1
        else:
            count = len(values)
            raw = np.asarray(values).astype("<" + _CODES[kind]).tobytes()
        if len(raw) > 8:
            file.write(b"\0" * (-file.tell() % 8))
            at = file.tell()
            file.write(raw)
            raw = struct.pack("<Q", at)
        entries += struct.pack("<HHQ", code, kind, count) + raw.ljust(8, b"\0")
    file.write(b"\0" * (-file.tell() % 8))
    start = file.tell()
    file.write(struct.pack("<Q", len(tags)) + entries)
    here = file.tell()
    file.write(struct.pack("<Q", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<Q", start))
    file.seek(end)
    return here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=100_000)
    parser.add_argument("--height", type=int, default=80_000)
    parser.add_argument("--step", type=int, choices=(0, 2, 4), default=2)
    parser.add_argument("--mpp", type=float, default=0.25)
    args = parser.parse_args()
    start = time.perf_counter()
    sizes = make_pyramid(args.out, args.width, args.height, args.step, mpp=args.mpp)
    seconds = time.perf_counter() - start
    megabytes = args.out.stat().st_size / 1e6
    print(f"{args.out}: {len(sizes)} levels {sizes}, {megabytes:.1f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
