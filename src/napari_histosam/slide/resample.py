"""Exact resampling of RGB images: fractional area average when shrinking, linear when enlarging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Offsets and steps this near to a whole number are taken as whole: what is lost stays far below
# a thousandth of a px over any window, and the whole-number paths are exact and quick.
_NEAR = 1e-6
_NEAR_STEP = 1e-9


def needed(start: float, step: float, count: int) -> tuple[int, int]:
    """Return the first and one-past-last input px that `resample` reads along one axis.

    Output px ``i`` covers ``start + i * step`` to ``start + (i + 1) * step`` of the input.
    """
    start, step = _snap(start), _snap(step, _NEAR_STEP)
    end = start + count * step
    if step >= 1:
        return (int(np.floor(start)), int(np.ceil(end)))
    return (int(np.floor(start + step / 2 - 0.5)), int(np.floor(end - step / 2 - 0.5)) + 2)


def resample(
    image: NDArray[np.uint8],
    origin: tuple[int, int],
    start: tuple[float, float],
    step: tuple[float, float],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Resample an image on a regular grid.

    Along each axis on its own: with a step of 1 or more each output px is the mean of the input
    over the px it covers, fractions weighted exactly; with a smaller step it is the linear
    interpolation at its centre. Rounded half up, once, at the end.

    Parameters
    ----------
    image : (h, w, 3) uint8
        Holds at least what `needed` asks for.
    origin : tuple of int
        x, y of the image's first px in the frame of ``start``.
    start : tuple of float
        Left and top edge of the output in input px.
    step : tuple of float
        Input px per output px along x and y.
    size : tuple of int
        Output width and height.

    Returns
    -------
    (height, width, 3) uint8
    """
    x0, y0 = _snap(start[0]) - origin[0], _snap(start[1]) - origin[1]
    sx, sy = _snap(step[0], _NEAR_STEP), _snap(step[1], _NEAR_STEP)
    width, height = size
    if _whole(x0) and _whole(y0) and _whole(sx) and _whole(sy):
        left, top, fx, fy = int(x0), int(y0), int(sx), int(sy)
        part = image[top : top + height * fy, left : left + width * fx]
        return np.ascontiguousarray(part) if fx == fy == 1 else block_mean(part, fx, fy)
    rows = _weights(y0, sy, height, image.shape[0])
    cols = _weights(x0, sx, width, image.shape[1])
    h, w = image.shape[:2]
    # Kernel weights are not divided here: sums of dyadic weights are exact in float32, and one
    # division at the end rounds a tie as a tie.
    tall = rows @ image.reshape(h, w * 3).astype(np.float32)
    turned = np.ascontiguousarray(tall.reshape(height, w, 3).transpose(1, 0, 2))
    wide = (cols @ turned.reshape(w, height * 3)).reshape(width, height, 3)
    wide /= np.float32(max(sx, 1.0) * max(sy, 1.0))
    wide += np.float32(0.5)
    out = np.minimum(wide, 255).astype(np.uint8)
    return np.ascontiguousarray(out.transpose(1, 0, 2))


def block_mean(image: NDArray[np.uint8], fx: int, fy: int) -> NDArray[np.uint8]:
    """Average whole blocks of ``fy`` x ``fx`` px, rounded half up; sizes must be multiples.

    The image is (h, w), or (h, w, channels).
    """
    h, w = image.shape[:2]
    # Add block columns, then block rows, as strided sums: quicker than a five-dimensional mean.
    across = np.zeros((h, w // fx, *image.shape[2:]), np.uint32 if fx * fy > 256 else np.uint16)
    for i in range(fx):
        across += image[:, i::fx]
    total = np.zeros((h // fy, w // fx, *image.shape[2:]), across.dtype)
    for i in range(fy):
        total += across[i::fy]
    area = fx * fy
    if area & (area - 1) == 0 and area <= 256:
        shift = area.bit_length() - 1
        # 256 x 255 + 128 still fits 16 bits.
        return ((total + np.uint16(area // 2)) >> shift).astype(np.uint8)
    return ((total.astype(np.uint32) * 2 + area) // (2 * area)).astype(np.uint8)


def _weights(start: float, step: float, count: int, length: int) -> Any:
    """Build the sparse (count, length) matrix of one axis; rows add up to max(step, 1)."""
    from scipy.sparse import csr_array

    index = np.arange(count)
    if step >= 1:
        left = start + index * step
        right = left + step
        first = np.floor(left + 1e-9).astype(np.int64)
        taps = int(np.ceil(step)) + 1
        columns = first[:, None] + np.arange(taps)
        weights = np.minimum(right[:, None], columns + 1) - np.maximum(left[:, None], columns)
        weights = np.clip(weights, 0, None)
    else:
        centre = start + (index + 0.5) * step - 0.5
        first = np.floor(centre).astype(np.int64)
        columns = first[:, None] + np.arange(2)
        part = centre - first
        weights = np.stack([1 - part, part], axis=1)
    weights = weights.astype(np.float32)
    keep = (columns >= 0) & (columns < length) & (weights > 0)
    rows = np.broadcast_to(index[:, None], columns.shape)
    return csr_array((weights[keep], (rows[keep], columns[keep])), shape=(count, length))


def _snap(value: float, near: float = _NEAR) -> float:
    nearest = round(value)
    return float(nearest) if nearest != value and abs(value - nearest) <= near else float(value)


def _whole(value: float) -> bool:
    return value == int(value)
