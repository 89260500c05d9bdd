"""A cheap overview of a huge level without coarser ones: mean colours of evenly spread samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.slide.resample import needed, resample

if TYPE_CHECKING:
    from napari_histosam.slide.slide import Slide
    from napari_histosam.slide.source import RGB


def sketch(
    slide: Slide,
    level: int,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    reads: int,
) -> RGB:
    """Estimate a box of a level from at most ``reads`` small reads.

    The box is cut into a grid of cells; from each, the stored tile at its centre (its part inside
    the cell, at most 128 px wide) is read and averaged; the means are enlarged smoothly. The cost
    is bounded by ``reads`` decoded tiles however large the box is.

    Parameters
    ----------
    slide : Slide
    level : int
    box : tuple of float
        Left, top, right, bottom in px of the level.
    size : tuple of int
        Output width and height.
    reads : int

    Returns
    -------
    (height, width, 3) uint8
    """
    left, top, right, bottom = box
    aspect = (right - left) / (bottom - top)
    cols = int(np.clip(np.sqrt(reads * aspect), 1, min(reads, size[0])))
    rows = int(np.clip(reads // cols, 1, size[1]))
    cell_w, cell_h = (right - left) / cols, (bottom - top) / rows
    tile_w, tile_h = (min(t, 128) for t in slide.tile)
    means = np.empty((rows, cols, 3), np.uint8)
    for r in range(rows):
        y0, h = _sample(top + r * cell_h, cell_h, tile_h)
        for c in range(cols):
            x0, w = _sample(left + c * cell_w, cell_w, tile_w)
            block = slide.read_level(level, x0, y0, w, h)
            means[r, c] = np.floor(block.reshape(-1, 3).mean(axis=0) + 0.5)
    step = (cols / size[0], rows / size[1])
    spans = [needed(0, s, n) for s, n in zip(step, size, strict=True)]
    before = [max(-span[0], 0) for span in spans]
    after = [max(span[1] - n, 0) for span, n in zip(spans, (cols, rows), strict=True)]
    padded = np.pad(means, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")
    return resample(padded, (-before[0], -before[1]), (0, 0), step, size)


def _sample(start: float, length: float, tile: int) -> tuple[int, int]:
    """Return first px and px count of the part of the centre's tile that lies in the cell."""
    centre = int(start + length / 2)
    first = max(centre // tile * tile, int(np.ceil(start)))
    last = min((centre // tile + 1) * tile, int(start + length))
    return (first, max(last - first, 1))
