"""From stored samples to RGB uint8: gray, palette, alpha, and the mapping from 16 to 8 bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PixelFormat:
    """How stored samples are to be read.

    Parameters
    ----------
    kind : {"rgb", "gray", "palette"}
    bits : int
        Significant bits of a sample. Samples of more than 8 bit become ``value >> (bits - 8)``,
        clipped to 255: the same mapping for every tile of a slide. Full-range 16 bit is
        ``value >> 8``. Samples of fewer than 8 bit are spread over 0 to 255.
    alpha : {None, "straight", "premultiplied"}
        What the sample after the colours stands for; it is composited on the background.
    inverted : bool
        Gray where 0 is white.
    palette : (n, 3) uint8 array, optional
    """

    kind: Literal["rgb", "gray", "palette"]
    bits: int = 8
    alpha: Literal["straight", "premultiplied"] | None = None
    inverted: bool = False
    palette: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def colours(self) -> int:
        """Samples per px that carry colour."""
        return 3 if self.kind == "rgb" else 1


def to_rgb8(
    raw: NDArray[Any], fmt: PixelFormat, background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Turn stored samples (h, w, s) into RGB uint8 (h, w, 3)."""
    if fmt.kind == "palette":
        assert fmt.palette is not None
        return fmt.palette[np.minimum(raw[..., 0], len(fmt.palette) - 1)]
    colour = to_8bit(raw[..., : fmt.colours], fmt.bits)
    if fmt.inverted:
        colour = 255 - colour
    if fmt.kind == "gray":
        colour = np.repeat(colour, 3, axis=-1)
    if fmt.alpha is None or raw.shape[-1] <= fmt.colours:
        return np.ascontiguousarray(colour)
    alpha = to_8bit(raw[..., fmt.colours], fmt.bits)
    return composite(colour, alpha, background, fmt.alpha == "premultiplied")


def to_8bit(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Map samples of ``bits`` significant bits to 8 bit (see `PixelFormat`)."""
    if samples.dtype == np.bool_ or bits == 1:
        return (samples != 0).astype(np.uint8) * np.uint8(255)
    if bits == 8:
        return samples.astype(np.uint8, copy=False)
    if bits > 8:
        return np.minimum(samples >> (bits - 8), 255).astype(np.uint8)
    top = (1 << bits) - 1
    return ((samples.astype(np.uint16) * 255 + top // 2) // top).astype(np.uint8)


def composite(
    colour: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    background: tuple[int, int, int],
    premultiplied: bool = False,
) -> NDArray[np.uint8]:
    """Lay (h, w, 3) colours with an (h, w) alpha over a background colour.

    Division by 255 is rounded to nearest, as Pillow's ``paste`` with a mask does it.
    """
    if alpha.size == 0 or alpha.min() == 255:
        return np.ascontiguousarray(colour)
    a = alpha.astype(np.uint16)[..., None]
    under = np.asarray(background, np.uint16) * (255 - a)
    over = colour.astype(np.uint16) * (np.uint16(255) if premultiplied else a)
    total = np.minimum(over.astype(np.uint32) + under, 255 * 255)
    return ((total + 127) // 255).astype(np.uint8)
