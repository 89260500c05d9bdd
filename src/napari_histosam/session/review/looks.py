"""How objects look: a few stain features read at each one, and who differs from the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import shapely

from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.session.review.queue import Doubt
from napari_histosam.session.review.unusual import deviations, distances

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.session.review.candidates import Candidates
    from napari_histosam.slide import Slide
    from napari_histosam.store import ObjectStore

# The distance (about 1 is usual) from which on an object looks unlike its class.
UNLIKE = 2.5
# Window px of an object's longer side, and the side of the window around it.
_SIDE, _WINDOW = 32.0, 48
_CHUNK = 50

# Direction words per feature: more, less.
_SAYS = (
    ("darker", "paler"),
    ("bluer", "pinker"),
    ("browner", "less brown"),
    ("more textured", "smoother"),
    ("darker against its surroundings", "paler against its surroundings"),
)


def features(picture: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what an object looks like.

    Parameters
    ----------
    picture : (height, width, 3) uint8 RGB array
        A window around it.
    inside : (height, width) bool array
        True on the object.

    Returns
    -------
    (5,) float array
        Of the optical density (natural logarithm): median of the mean of the three channels; of
        red less green (haematoxylin absorbs red, eosin green); of blue less the other two (what
        brown stains absorb); then the standard deviation of the mean, and its median inside less
        that around the object. NaN for an empty mask.
    """
    if not inside.any():
        return np.full(5, np.nan)
    density = -np.log(np.maximum(picture, 1) / 255.0)
    grey = density.mean(axis=2)
    around = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~inside
    red, green, blue = np.median(density[inside], axis=0).tolist()
    dark = float(np.median(grey[inside]))
    out = float(np.median(grey[around])) if around.any() else float(np.median(grey))
    return np.array(
        [dark, red - green, blue - (red + green) / 2, float(grey[inside].std()), dark - out]
    )


def look(
    slide: Slide,
    store: ObjectStore,
    of: Candidates,
    chosen: NDArray[np.int64],
    step: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Read the chosen objects on the slide, chunk by chunk.

    Returns
    -------
    (n, 5) float array
        Their `features`; NaN for objects that were not chosen or are gone.
    """
    out = np.full((len(of), 5), np.nan)
    for start in range(0, len(chosen), _CHUNK):
        part = np.sort(chosen[start : start + _CHUNK])
        numbers = of.numbers[part]
        for number, blob, _ in store.review_outlines(numbers.tolist()):
            at = int(part[np.searchsorted(numbers, number)])
            out[at] = _seen(slide, shapely.from_wkb(blob))
        step(min(start + _CHUNK, len(chosen)))
    return out


def odd_look(of: Candidates, found: NDArray[np.float64]) -> Doubt:
    """Return the list of objects that look unlike those of their class that a person stands for.

    Parameters
    ----------
    of : Candidates
    found : (n, 5) float array
        What `look` gave.
    """
    z, _ = deviations(found, of.groups, of.vouched)
    far = distances(z, of.groups, of.vouched)

    def words(i: int) -> str:
        most = int(np.argmax(np.abs(z[i])))
        how = _SAYS[most][int(z[i, most] < 0)]
        return f"looks unlike most {of.classes[i] or 'unclassified objects'}: {how}"

    with np.errstate(invalid="ignore"):
        return Doubt("look", np.where(far > UNLIKE, far, np.nan), words)


def _seen(slide: Slide, shape: BaseGeometry) -> NDArray[np.float64]:
    left, top, right, bottom = shape.bounds
    scale = max(right - left, bottom - top, 1.0) / _SIDE
    window = Window((left + right) / 2, (top + bottom) / 2, (scale, scale), (_WINDOW, _WINDOW))
    return features(slide.read(window), polygons_to_mask(shape, window))
