"""Cuts training crops: an object at a random scale and angle, recoloured, with a neighbour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.train.simulate import any_point
from napari_histosam.train.small import stain
from napari_histosam.train.small.warp import CUBIC, LINEAR, NEAREST, blurred, warped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_histosam.train.small.pool import Picture

SIDE, SMALL_SIDE = 96, 64
"""Net px of a training crop; the small ones are like the coarsest view of a window."""
OBJECTS = 2
"""Objects that are asked for in each crop."""

# Share of the crops that come from each data set.
SHARES = {
    "dsb": 0.20,
    "tnbc": 0.09,
    "tnbcj": 0.09,
    "dsbpap": 0.05,
    "dsbf": 0.12,
    "ebhi": 0.23,
    "rings": 0.09,
    "rings512": 0.06,
    "glom": 0.07,
}
# Side of the object (root of its area) in net px: median and spread of its logarithm. Some are of
# any size between the limits, so that scores learn to tell a scale that does not suit the object.
_MEDIAN, _SPREAD = 34.0, 0.36
_RECOLOURED_PLAIN = 0.3
_ANY_SIZE, _LEAST, _MOST = 0.07, 6.0, 300.0
_ENLARGED_AT_MOST = 3.2
# The same in windows as a user sees them.
_SHOWN_LEAST, _SHOWN_MOST, _SHOWN_ENLARGED = 14.0, 380.0, 2.0
# How far the object's centre may lie from the crop's, as a share of the crop's side.
_OFFSET = 0.18
# Px of another object, and its share of the whole, that a crop has to show to ask for it.
_LEAST_SHOWN, _SHARE_SHOWN = 80, 0.6
# Share of crops that show nothing but glass.
_BARE = 0.015
# Share of crops that reach beyond their picture and are filled up from another one.
_CONTINUED = 0.3


@dataclass(frozen=True)
class Crop:
    """One training crop.

    Parameters
    ----------
    image : (side, side, 3) uint8 array
    masks : (n, side, side) bool array
        The first object again where there are fewer than were wanted.
    areas : (n,) float array
        The whole objects' areas in net px, which may reach beyond the crop.
    glass : (side, side) bool array
        Where there is nothing but glass.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    areas: NDArray[np.float64]
    glass: NDArray[np.bool_]


class CropMaker:
    """Makes crops from pictures.

    Parameters
    ----------
    pictures : sequence of Picture
    shares : mapping of str to float
        How often each data set is drawn; sets that are not there are passed over.
    plain : bool
        Make crops as a user sees whole windows: few recoloured, and with objects of any size.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        shares: Mapping[str, float] = SHARES,
        *,
        plain: bool = False,
    ) -> None:
        self._plain = plain
        by_kind: dict[str, list[Picture]] = {}
        for picture in pictures:
            by_kind.setdefault(picture.kind, []).append(picture)
        self._groups = list(by_kind.values())
        shared = np.array([shares.get(kind, 0.05) for kind in by_kind])
        self._shares = shared / shared.sum()

    def make(self, rng: np.random.Generator, side: int = SIDE, objects: int = OBJECTS) -> Crop:
        """Return a crop of so many px; the same generator state gives the same crop."""
        if rng.random() < _BARE:
            return _bare(rng, side, objects)
        group = self._groups[rng.choice(len(self._groups), p=self._shares)]
        picture = group[rng.integers(len(group))]
        first = int(rng.integers(len(picture.numbers)))
        wanted = _any_size(rng, _SHOWN_LEAST, _SHOWN_MOST) if self._plain else _size(rng)
        most = _SHOWN_ENLARGED if self._plain else _ENLARGED_AT_MOST
        zoom = min(wanted / math.sqrt(float(picture.areas[first])), most)
        about = picture.bounds[first]
        if (about[2:] - about[:2]).max() * zoom > side:
            about = _some_px(picture, first, rng)
        to_crop = _matrix(about, zoom, side, rng)
        fill = _ground(rng)
        image = _warped(picture, to_crop, zoom, side, fill, rng)
        outside = _outside(picture.labels.shape, to_crop, side)
        glass = outside & (fill.min() > 0)
        if outside.mean() > 0.1 and rng.random() < _CONTINUED:
            # On a slide the tissue goes on: let that of another picture stand there.
            other = group[rng.integers(len(group))]
            around = _matrix(_middle(other), zoom, side, rng)
            image[outside] = _warped(other, around, zoom, side, fill, rng)[outside]
            glass &= _outside(other.labels.shape, around, side)
        if not self._plain or rng.random() < _RECOLOURED_PLAIN:
            image = stain.recoloured(image, rng)
        labels = warped(picture.labels, to_crop, side, NEAREST)
        chosen = [first, *_others(picture, labels, first, zoom, rng)][:objects]
        chosen += [first] * (objects - len(chosen))
        masks = np.stack([_mask(picture, one, to_crop, zoom, side) for one in chosen])
        scale = abs(float(np.linalg.det(to_crop[:, :2])))
        areas = np.maximum(picture.areas[chosen] * scale, masks.sum((1, 2)))
        return Crop(image, masks, areas, glass)


def _size(rng: np.random.Generator) -> float:
    """Return the side that an object shall have, in net px."""
    if rng.random() < _ANY_SIZE:
        return _any_size(rng, _LEAST, _MOST)
    return _MEDIAN * math.exp(rng.normal(0, _SPREAD))


def _any_size(rng: np.random.Generator, least: float, most: float) -> float:
    return math.exp(rng.uniform(math.log(least), math.log(most)))


def _bare(rng: np.random.Generator, side: int, objects: int) -> Crop:
    """Return a crop of glass: bright, perhaps a little uneven, with nothing on it."""
    field = cv2.resize(rng.random((4, 4)), (side, side), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, rng.uniform(0, 3), (side, side, 3))
    image = _ground(rng, black=0) + (field[..., None] - 0.5) * rng.uniform(0, 12) + noise
    nothing = np.zeros((objects, side, side), bool)
    everywhere = np.ones((side, side), bool)
    return Crop(np.clip(image, 0, 255).astype(np.uint8), nothing, np.zeros(objects), everywhere)


def _matrix(
    bounds: NDArray[np.int64], zoom: float, side: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the 2 x 3 map from px of the image to px of the crop (both from pixel centres)."""
    turn = rng.uniform(0, 2 * math.pi) if rng.random() < 0.5 else rng.integers(4) * math.pi / 2
    flip = -1.0 if rng.random() < 0.5 else 1.0
    stretch = math.exp(rng.normal(0, 0.05))
    cos, sin = math.cos(turn), math.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([flip * stretch, 1 / stretch]) * zoom
    left, top, right, bottom = bounds
    centre = np.array([(left + right - 1) / 2, (top + bottom - 1) / 2])
    target = (side - 1) / 2 + side * rng.uniform(-_OFFSET, _OFFSET, 2)
    return np.column_stack([linear, target - linear @ centre])


def _warped(
    picture: Picture,
    to_crop: NDArray[np.float64],
    zoom: float,
    side: int,
    fill: NDArray[np.uint8],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    level = min(max(math.floor(-math.log2(zoom) + 0.25), 0), len(picture.levels) - 1)
    source = picture.levels[level]
    # From pixel centres of the level to those of the image: x · f + (f - 1) / 2.
    factor = picture.image.shape[1] / source.shape[1], picture.image.shape[0] / source.shape[0]
    up = np.array([[factor[0], 0, (factor[0] - 1) / 2], [0, factor[1], (factor[1] - 1) / 2]])
    matrix = to_crop @ np.vstack([up, [0, 0, 1]])
    cubic = zoom > 1 and rng.random() < 0.5
    if picture.fluorescent:
        image = stain.like_haematoxylin(warped(source, matrix, side), rng)
        image[_outside(picture.labels.shape, to_crop, side)] = fill
        return image
    return warped(source, matrix, side, CUBIC if cubic else LINEAR, fill.tolist())


def _some_px(picture: Picture, index: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the bounds of one px of an object: of a large one, a crop shows a part."""
    left, top, right, bottom = (int(v) for v in picture.bounds[index])
    part = picture.labels[top:bottom, left:right] == picture.numbers[index]
    x, y = (int(v) for v in any_point(part, rng))
    return np.array([left + x, top + y, left + x + 1, top + y + 1])


def _middle(picture: Picture) -> NDArray[np.int64]:
    height, width = picture.labels.shape
    return np.array([0, 0, width, height])


def _outside(shape: tuple[int, ...], to_crop: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Return which px of the crop lie beyond the image's border."""
    return warped(np.full(shape, 255, np.uint8), to_crop, side, NEAREST) == 0


def _ground(rng: np.random.Generator, black: float = 0.15) -> NDArray[np.uint8]:
    """Return the colour beyond the image's border: glass, as a slide has it, or black."""
    if rng.random() < black:
        return np.zeros(3, np.uint8)
    return rng.integers(225, 256, 3).astype(np.uint8)


def _others(
    picture: Picture,
    labels: NDArray[np.uint16],
    first: int,
    zoom: float,
    rng: np.random.Generator,
) -> list[int]:
    """Return the places in the table of the other objects that the crop shows, shuffled."""
    seen = np.bincount(labels.ravel(), minlength=int(picture.numbers.max()) + 1)
    seen = seen[picture.numbers]
    # Slivers at the crop's border teach little.
    shown = (seen >= _LEAST_SHOWN) & (seen >= _SHARE_SHOWN * picture.areas * zoom**2)
    shown[first] = False
    return [int(i) for i in rng.permutation(np.flatnonzero(shown))]


def _mask(
    picture: Picture, index: int, to_crop: NDArray[np.float64], zoom: float, side: int
) -> NDArray[np.bool_]:
    left, top, right, bottom = (int(v) for v in picture.bounds[index])
    part = picture.labels[top:bottom, left:right] == picture.numbers[index]
    padded = np.pad(part.astype(np.float32), 1)
    matrix = to_crop.copy()
    matrix[:, 2] += to_crop[:, :2] @ np.array([left - 1, top - 1])
    if zoom < 0.7:
        sigma = 0.4 / zoom
        padded = blurred(np.pad(padded, math.ceil(2 * sigma)), sigma).astype(np.float32)
        matrix[:, 2] -= to_crop[:, :2] @ np.full(2, math.ceil(2 * sigma))
    return warped(padded, matrix, side) > 0.5
