"""Makes areas of a map: polygons with holes, their mean probability, and each class's share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.scan import fill
from napari_histosam.geometry.seams import BandTracer, Part
from napari_histosam.models.sam_lung.post import rounded, side_px
from napari_histosam.session.regions.request import AreaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from shapely import Polygon
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.session.regions.region_map import RegionMap

    Box = tuple[int, int, int, int]

# Px of a band, apart from what it shares with its neighbours: this bounds the memory used.
BAND_PX = 2**22
LEAST_ROWS = 64


@dataclass(frozen=True)
class Area:
    """One area.

    Parameters
    ----------
    geometry : Polygon
        With holes, level-0 px.
    class_name : str
    mean : float
        The mean probability of its px, 0 to 1.
    pixels : int
        Its map px.
    """

    geometry: Polygon
    class_name: str
    mean: float
    pixels: int


@dataclass(frozen=True)
class Share:
    """How much there is of a class.

    Parameters
    ----------
    um2 : float, optional
        Of its areas together; None on a slide whose scale is not known.
    fraction : float
        The share of the tissue, in the part that was asked for, that lies in its areas; 0 to 1.
    """

    um2: float | None
    fraction: float


@dataclass(frozen=True)
class Areas:
    """The areas of a map.

    Parameters
    ----------
    areas : tuple of Area
        By class, and from top to bottom by where they end.
    shares : mapping of str to Share
        By class.
    tissue_um2 : float, optional
        All that is not bare glass, in the part that was asked for.
    tissue_px : int
        The same in map px.
    """

    areas: tuple[Area, ...]
    shares: dict[str, Share]
    tissue_um2: float | None
    tissue_px: int


class ClassMasks:
    """Which px are of which class, band by band, the same whatever the bands.

    Parameters
    ----------
    found : RegionMap
    settings : AreaSettings
    level : int
        Of the map; above 0 for display.
    """

    def __init__(self, found: RegionMap, settings: AreaSettings, level: int = 0) -> None:
        self._map = found
        self._level = level
        self._least = int(np.ceil(round(settings.threshold * 255, 6)))
        self._side = side_px(settings.smooth_um, px_size(found)[0] * 2**level)
        self._region = found.region
        # Opening and closing reach four times half the square.
        self.reach = 0 if self._side is None else 4 * (self._side // 2)

    def read(
        self, top: int, bottom: int, left: int, right: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Return masks and probabilities of a part of the level, both (k, h, w).

        The masks share no px: of several classes, the likeliest has it.
        """
        high, wide = self._map.shapes[self._level]
        y0, y1 = max(top - self.reach, 0), min(bottom + self.reach, high)
        x0, x1 = max(left - self.reach, 0), min(right + self.reach, wide)
        likely = self._map.read(self._level, y0, y1, x0, x1)
        masks = likely >= self._least
        inner = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
        if not masks.any():
            return masks[:, *inner], likely[:, *inner]
        masks = _exclusive(masks, likely)
        if self._side is not None:
            masks = np.stack([rounded(mask, self._side) for mask in masks])
            masks = _exclusive(masks, likely)
        masks, likely = masks[:, *inner], likely[:, *inner]
        if self._region is not None:
            masks &= self.inside(top, bottom, left, right)
        return masks, likely

    def inside(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
        """Return which px of a part of the level lie in the region that was asked for."""
        if self._region is None:
            return np.ones((bottom - top, right - left), bool)
        down = np.asarray(self._map.scale) * 2**self._level
        local = shapely.transform(self._region, lambda xy: xy / down - (left, top))
        return fill(np.zeros((bottom - top, right - left), bool), [local], [True])


def areas(
    found: RegionMap,
    settings: AreaSettings | None = None,
    *,
    step: Callable[[float], None] = lambda _share: None,
) -> Areas:
    """Make the areas of a map.

    The mask of each class is made of the whole map, not of its windows, but band by band, so that
    memory does not grow with it.

    Parameters
    ----------
    found : RegionMap
    settings : AreaSettings, optional
    step : callable
        Called after each band with the share that is done; may raise to stop.
    """
    settings = settings or AreaSettings()
    masks = ClassMasks(found, settings)
    asked = _bounds(found)
    left, top, right, bottom = _common(asked, found.written())
    tracers = [BandTracer(right - left) for _ in found.classes]
    parts: list[list[Area]] = [[] for _ in found.classes]
    on_tissue = np.zeros(len(found.classes))
    px = px_size(found)
    least = settings.least_um2 / (px[0] * px[1])
    tissue, tissue_px = _Tissue(found, left, right), _tissue_px(found, masks, asked)

    def keep(kind: int, ended: Iterator[Part]) -> None:
        for part in ended:
            if part.pixels >= least:
                parts[kind].append(_area(part, found, kind, (left, top)))
                on_tissue[kind] += part.sums[1]

    rows = max(LEAST_ROWS, masks.reach, BAND_PX // max((right - left) * len(tracers), 1))
    for y in range(top, bottom, rows):
        end = min(y + rows, bottom)
        cover = tissue.read(y, end)
        bands, likely = masks.read(y, end, left, right)
        for kind, tracer in enumerate(tracers):
            keep(kind, tracer.add(bands[kind], (likely[kind], cover)))
        step((end - top) / max(bottom - top, 1))
    for kind, tracer in enumerate(tracers):
        keep(kind, tracer.end())
    um2 = None if found.px_um is None else px[0] * px[1]
    shares = {
        name: Share(
            None if um2 is None else sum(one.pixels for one in parts[kind]) * um2,
            float(on_tissue[kind]) / tissue_px if tissue_px else 0.0,
        )
        for kind, name in enumerate(found.classes)
    }
    return Areas(
        tuple(one for of in parts for one in of),
        shares,
        None if um2 is None else tissue_px * um2,
        tissue_px,
    )


def estimate(found: RegionMap, settings: AreaSettings) -> dict[str, float]:
    """Return about which share of the tissue each class has, quickly: of the coarsest level.

    Smoothing narrower than a few px there, and the least size, are left out of account.
    """
    level = len(found.shapes) - 1
    high, wide = found.shapes[level]
    masks = ClassMasks(found, settings, level)
    cover = _Tissue(found, 0, wide, level).read(0, high) & masks.inside(0, high, 0, wide)
    tissue = np.count_nonzero(cover)
    taken, _ = masks.read(0, high, 0, wide)
    return {
        name: float(np.count_nonzero(mask & cover) / tissue) if tissue else 0.0
        for name, mask in zip(found.classes, taken, strict=True)
    }


def px_size(found: RegionMap) -> tuple[float, float]:
    """Return µm per map px; on a slide whose scale is not known, as if it were the model's."""
    if found.px_um is not None:
        return found.px_um
    mpp = found.about["model_mpp"] or 1.0
    return mpp, mpp


def _tissue_px(found: RegionMap, masks: ClassMasks, box: Box) -> int:
    """Return how many map px of what was asked for are tissue."""
    left, top, right, bottom = box
    tissue = _Tissue(found, left, right)
    if found.region is None:
        return tissue.count(top, bottom)
    rows = max(LEAST_ROWS, BAND_PX // max(right - left, 1))
    count = 0
    for y in range(top, bottom, rows):
        end = min(y + rows, bottom)
        count += int(np.count_nonzero(tissue.read(y, end) & masks.inside(y, end, left, right)))
    return count


class _Tissue:
    """The tissue mask in px of a level of the map, some columns of it."""

    def __init__(self, found: RegionMap, left: int, right: int, level: int = 0) -> None:
        tissue = found.tissue
        self._mask, self._scale = tissue.mask, tissue.scale
        self._down = tuple(scale * 2**level for scale in found.scale)
        self._columns = self._at(0, left, right)

    def read(self, top: int, bottom: int) -> NDArray[np.bool_]:
        return self._mask[self._at(1, top, bottom)][:, self._columns]

    def count(self, top: int, bottom: int) -> int:
        """Return how many px of some rows are tissue, without making them."""
        down = np.bincount(self._at(1, top, bottom), minlength=self._mask.shape[0])
        across = np.bincount(self._columns, minlength=self._mask.shape[1])
        return int(down @ self._mask.astype(np.int64) @ across)

    def _at(self, axis: int, begin: int, end: int) -> NDArray[np.int64]:
        middles = (np.arange(begin, end) + 0.5) * self._down[axis] / self._scale[axis]
        return np.minimum(middles.astype(np.int64), self._mask.shape[1 - axis] - 1)


def _exclusive(masks: NDArray[np.bool_], likely: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Leave each px to the likeliest of the classes that claim it; the first among equals."""
    if len(masks) < 2:
        return masks
    best = np.where(masks, likely.astype(np.int16), -1).argmax(0)
    return masks & (best == np.arange(len(masks))[:, None, None])


def _common(one: Box, other: Box) -> Box:
    """Return what two boxes share; nothing is a box without rows."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, 1, 0)


def _bounds(found: RegionMap) -> Box:
    """Return left, top, right, bottom of what was asked for, in map px."""
    high, wide = found.shapes[0]
    region: BaseGeometry | None = found.region
    if region is None:
        return 0, 0, wide, high
    (x0, y0, x1, y1), (sx, sy) = region.bounds, found.scale
    return (
        max(int(x0 // sx), 0),
        max(int(y0 // sy), 0),
        min(int(-(-x1 // sx)), wide),
        min(int(-(-y1 // sy)), high),
    )


def _area(part: Part, found: RegionMap, kind: int, corner: tuple[int, int]) -> Area:
    outline, pixels, sums = part.outline, part.pixels, part.sums
    scale = np.asarray(found.scale)
    shape = shapely.transform(outline, lambda xy: (xy + corner) * scale)
    return Area(shape, found.classes[kind], sums[0] / pixels / 255, pixels)
