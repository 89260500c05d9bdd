"""Draws one window: numbers of the objects, and where it is not known whether there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely

from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.scan import fill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from napari_histosam.geometry.window import Window
    from napari_histosam.train.dataset.kinds import Marked

    Shape: TypeAlias = Polygon | MultiPolygon

UNKNOWN = 255
"""The value of a px of which it is not known whether there is an object."""

# A piece of an object that the window's edge cuts off shows nothing of its shape if it has fewer
# px than this, or less than this share of the object.
_LEAST_PX, _LEAST_SHARE = 24, 0.25


@dataclass(frozen=True)
class Instance:
    """One object as it is seen in a window.

    Parameters
    ----------
    number : int
        Its value in the labels.
    index : int
        Its place in the slide's list of objects.
    whole : bool
        Whether no edge of the window cuts it.
    visible : float
        Share of its px in the window that are its own in the labels; below 1 where smaller
        objects lie over it.
    left, top : int
        Where ``mask`` lies in the window, px.
    mask : (h, w) bool array
        All its px in the window, covered ones included, cut to where they are.
    """

    number: int
    index: int
    whole: bool
    visible: float
    left: int
    top: int
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Its px in the window, covered ones included."""
        return int(np.count_nonzero(self.mask))

    def in_window(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return its mask in a window of (width, height) px."""
        out = np.zeros(size[::-1], np.bool_)
        height, width = self.mask.shape
        out[self.top : self.top + height, self.left : self.left + width] = self.mask
        return out


@dataclass(frozen=True)
class Drawn:
    """A drawn window.

    Parameters
    ----------
    labels : (h, w) uint16 array
        0 for no object, else an instance's number.
    ignore : (h, w) uint8 array
        `UNKNOWN` where it is not known whether there is an object, else 0.
    instances : tuple of Instance
        By number: 1, 2, ….
    """

    labels: NDArray[np.uint16]
    ignore: NDArray[np.uint8]
    instances: tuple[Instance, ...]


class _Crop(NamedTuple):
    """A mask and where its upper left px lies in the window."""

    left: int
    top: int
    mask: NDArray[np.bool_]

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the part of an image of the whole window where the mask lies, as a view."""
        height, width = self.mask.shape
        return image[self.top : self.top + height, self.left : self.left + width]


class Drawer:
    """Draws the windows of one slide.

    Parameters
    ----------
    marked : Marked
    octaves : sequence of int
        Of each object: how often windows are coarsened twofold before it fits.
    size : (int, int)
        Width and height of the slide in level-0 px.
    """

    def __init__(self, marked: Marked, octaves: Sequence[int], size: tuple[int, int]) -> None:
        self._marked, self._octaves = marked, octaves
        self._slide = shapely.box(0, 0, *size)
        self._shapes = shapely.STRtree(list(marked.shapes))
        self._regions = shapely.STRtree(list(marked.regions))
        self._unknown = shapely.STRtree(list(marked.unknown))

    def draw(self, window: Window, octave: int, homes: Sequence[int] = ()) -> Drawn:
        """Draw a window.

        Parameters
        ----------
        window : Window
        octave : int
            Its own.
        homes : sequence of int
            Objects that are to be there however small they are.

        Notes
        -----
        A px belongs to an object if its centre lies inside. Where objects overlap, the smallest
        is on top. Unknown are: what is outside of regions and objects; what an ``Ignore*`` or an
        unreviewed object covers; objects too large for this window; and pieces and specks of
        objects that are too small to tell their shape. Specks on another object are left out.
        """
        box = shapely.box(*window.bounds)
        shape = (window.size[1], window.size[0])
        ignore = np.full(shape, UNKNOWN, np.uint8)
        self._paint(ignore, self._regions, window, box, 0)
        self._paint(ignore, self._unknown, window, box, UNKNOWN)
        if not self._slide.contains(box):
            ignore[~polygons_to_mask(self._slide, window)] = UNKNOWN
        seen: list[tuple[int, bool, _Crop]] = []
        at_home = set(homes)
        for index in np.sort(self._shapes.query(box, predicate="intersects")).tolist():
            crop = _cropped(self._marked.shapes[index], window)
            count = int(np.count_nonzero(crop.mask))
            if not count:
                continue
            whole = _inside(self._marked.shapes[index], window)
            if index in at_home or self._tells(index, count, whole, window, octave):
                seen.append((index, whole, crop))
            else:
                crop.of(ignore)[crop.mask] = UNKNOWN
        labels, instances = self._numbered(seen, shape)
        ignore[labels > 0] = 0
        return Drawn(labels, ignore, instances)

    def _tells(self, index: int, count: int, whole: bool, window: Window, octave: int) -> bool:
        """Tell whether what a window shows of an object says something of its shape."""
        if whole:
            return count >= _LEAST_PX or self._octaves[index] == octave
        area = self._marked.shapes[index].area / (window.scale[0] * window.scale[1])
        fits = self._octaves[index] <= octave
        return fits and count >= max(_LEAST_PX, _LEAST_SHARE * area)

    def _numbered(
        self, seen: Sequence[tuple[int, bool, _Crop]], shape: tuple[int, int]
    ) -> tuple[NDArray[np.uint16], tuple[Instance, ...]]:
        """Lay the masks over each other, smallest on top, and number those that show."""
        areas = [self._marked.shapes[index].area for index, _, _ in seen]
        raw = np.zeros(shape, np.uint16)
        for at in sorted(range(len(seen)), key=lambda i: (-areas[i], i)):
            crop = seen[at][2]
            crop.of(raw)[crop.mask] = at + 1
        own = np.bincount(raw.ravel(), minlength=len(seen) + 1)[1:]
        table = np.zeros(len(seen) + 1, np.uint16)
        instances: list[Instance] = []
        for at, (index, whole, crop) in enumerate(seen):
            if own[at]:
                number = len(instances) + 1
                table[at + 1] = number
                visible = float(own[at]) / int(np.count_nonzero(crop.mask))
                instances.append(Instance(number, index, whole, visible, *crop))
        return table[raw], tuple(instances)

    def _paint(
        self,
        out: NDArray[np.uint8],
        tree: shapely.STRtree,
        window: Window,
        box: Polygon,
        value: int,
    ) -> None:
        found = np.sort(tree.query(box, predicate="intersects"))
        local = [shapely.transform(tree.geometries[i], window.from_level0) for i in found]
        fill(out, local, [value] * len(local))


def _cropped(shape: Shape, window: Window) -> _Crop:
    """Fill a shape into the part of a window that it can cover."""
    local = shapely.transform(shape, window.from_level0)
    x0, y0, x1, y1 = local.bounds
    left, top = max(math.floor(x0), 0), max(math.floor(y0), 0)
    right, bottom = min(math.ceil(x1), window.size[0]), min(math.ceil(y1), window.size[1])
    out = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.bool_)
    if out.size:
        fill(out, [shapely.transform(local, lambda xy: xy - (left, top))], [True])
    return _Crop(left, top, out)


def _inside(shape: Shape, window: Window) -> bool:
    """Tell whether a shape lies in a window, but for what rounding does at a slide's edge."""
    left, top, right, bottom = shape.bounds
    return window.contains([[left, top], [right, bottom]], -1e-3)
