"""Cleans a decoder's mask: only what the prompts point at, without pinholes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.geometry.components import fill_small_holes, keep_under, largest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts

# Holes smaller than this share of the mask are the decoder's noise, not lumina.
PINHOLE = 0.002


def tidy(mask: NDArray[np.bool_], asked: ObjectPrompts) -> NDArray[np.bool_]:
    """Return the part of a mask that the prompts mean.

    Parameters
    ----------
    mask : (height, width) bool array
    asked : ObjectPrompts
        In the mask's px. With positive clicks, the components under them stay (all, should none
        be hit); with a box alone, the largest; a mask prompt keeps everything, as objects may
        have parts.

    Returns
    -------
    (height, width) bool array
    """
    kept = mask
    if asked.points is not None and asked.labels is not None and (asked.labels == 1).any():
        under = keep_under(mask, asked.points[asked.labels == 1])
        kept = under if under.any() else mask
    elif asked.box is not None and asked.mask is None:
        kept = largest(mask)
    area = int(kept.sum())
    return fill_small_holes(kept, max(4.0, PINHOLE * area)) if area else kept
