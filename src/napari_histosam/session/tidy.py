"""Cleans a decoder's mask: only what the prompts point at, without pinholes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.geometry.components import fill_small_holes, keep_under, largest
from napari_histosam.session.prompts import clicks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.geometry.window import Window
    from napari_histosam.records import Prompt

# Holes smaller than this share of the mask are the decoder's noise, not lumina.
PINHOLE = 0.002


def tidy(
    mask: NDArray[np.bool_], prompts: Sequence[Prompt], window: Window, *, whole: bool = False
) -> NDArray[np.bool_]:
    """Return the part of a mask that the prompts mean.

    With positive clicks, the components under them stay (all, should none be hit); with a box
    alone, the largest; a mask prompt keeps everything, as objects may have parts.

    Parameters
    ----------
    mask : (height, width) bool array
    prompts : sequence of Prompt
        Of the object, level-0 px.
    window : Window
        Where the mask lies.
    whole : bool
        Keep all components, for masks in which corrections by hand have gone.

    Returns
    -------
    (height, width) bool array
    """
    kept = mask
    positive = [clicks_of(p) for p in prompts if p.role == "positive"]
    masked = any(p.role == "mask" for p in prompts)
    if positive and not whole and not masked:
        under = keep_under(mask, window.from_level0(np.concatenate(positive)))
        kept = under if under.any() else mask
    elif not whole and not masked:
        kept = largest(mask)
    area = int(np.count_nonzero(kept))
    return fill_small_holes(kept, max(4.0, PINHOLE * area)) if area else kept
