"""Which of the objects that a model saw in a tile are kept, so that tiles leave no trace.

The rule: a tile keeps an object whose middle (of its bounding box) lies in the tile's core, widened
by a few px; one that the window's border cuts is not kept, for the tile in whose core it lies saw
it whole. The widened cores overlap, so that an object whose middle two tiles place a px apart is
not lost between them; if both keep it, the one of the earlier tile stays (`Neighbours`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.masks import mask_to_outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window
    from napari_histosam.models.automatic import Detections
    from napari_histosam.session.automate.plan import Tile, TilePlan

# Window px by which a core is widened: two tiles place the middle of one object no further apart.
SLACK_PX = 6
# Objects that overlap more are one object: IoU, and for two tiles' answers the share of the
# smaller one, for one tile may have joined what the other has parted.
SAME_IOU = 0.5
SAME_PART = 0.5


@dataclass(frozen=True)
class Kept:
    """An object that a tile keeps.

    Parameters
    ----------
    shape : shapely geometry
        Level-0 px.
    score : float
    kind : int
        Number of its class.
    owned : bool
        Whether its middle lies in the core itself, not only in the strip beside it.
    """

    shape: BaseGeometry
    score: float
    kind: int
    owned: bool = True


@dataclass(frozen=True)
class Sifted:
    """What was kept of a tile.

    Parameters
    ----------
    kept : tuple of Kept
    cut : int
        Pieces with their middle in the core that the window cuts nevertheless: their objects are
        larger than the overlap allows, so that no tile sees them whole.
    """

    kept: tuple[Kept, ...]
    cut: int


def sift(plan: TilePlan, tile: Tile, found: Detections, least_score: float) -> Sifted:
    """Keep what belongs to a tile and to the plan's region.

    Parameters
    ----------
    plan : TilePlan
    tile : Tile
    found : Detections
        Of the tile's window.
    least_score : float
        Objects with a lower score are left out.
    """
    kept: list[Kept] = []
    cut = 0
    open_sides = [not on for on in plan.on_slide_edge(tile)]
    core = tile.window.from_level0(np.reshape(tile.core, (2, 2))).ravel()
    for mask, corner, score, kind in zip(
        found.masks, found.corners, found.scores, found.kinds, strict=True
    ):
        if score < least_score or not mask.any():
            continue
        box = _box(mask, corner)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        if not _within(middle, core, SLACK_PX):
            continue
        if not plan.whole:
            x, y = tile.window.to_level0(middle)
            if not shapely.intersects_xy(plan.region, x, y):
                continue
        owned = _within(middle, core, 0)
        if _is_cut(box, tile.window.size, open_sides):
            cut += int(owned)
            continue
        shape = mask_to_outline(mask, _crop(tile.window, corner, mask.shape))
        if shape is not None:
            kept.append(Kept(shape, float(score), int(kind), owned))
    return Sifted(tuple(kept), cut)


class Neighbours:
    """The objects that are there already around those of a tile.

    Parameters
    ----------
    shapes : sequence of shapely geometry
    own : sequence of bool
        Whether the same run found each of them, in an earlier tile.
    """

    def __init__(self, shapes: Sequence[BaseGeometry], own: Sequence[bool]) -> None:
        sound = [s if s.is_valid else shapely.make_valid(s) for s in shapes]
        self._shapes = np.array(sound, object)
        self._own = np.array(own, bool)
        self._tree = shapely.STRtree(self._shapes)

    def new(self, kept: Sequence[Kept]) -> tuple[list[Kept], int]:
        """Return those that are not there already, and how many others hold the place of one."""
        if not kept or not len(self._shapes):
            return list(kept), 0
        shapes = np.array([one.shape for one in kept], object)
        mine, theirs = self._tree.query(shapes, predicate="intersects")
        common = shapely.area(shapely.intersection(shapes[mine], self._shapes[theirs]))
        areas, others = shapely.area(shapes)[mine], shapely.area(self._shapes)[theirs]
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = common / (areas + others - common)
            part = common / np.minimum(areas, others)
        same = (iou >= SAME_IOU) | (self._own[theirs] & (part >= SAME_PART))
        known, twice = np.zeros(len(kept), bool), np.zeros(len(kept), bool)
        known[mine[same]] = True
        twice[mine[same & self._own[theirs]]] = True
        fresh = [one for one, old in zip(kept, known, strict=True) if not old]
        owned = np.array([one.owned for one in kept], bool)
        return fresh, int(np.count_nonzero(known & ~twice & owned))


def _box(mask: NDArray[np.bool_], corner: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a mask in window px."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(corner[0]), int(corner[1])
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1


def _within(middle: tuple[float, float], core: NDArray[np.float64], slack: float) -> bool:
    x, y = middle
    left, top, right, bottom = core
    return bool(left - slack <= x < right + slack and top - slack <= y < bottom + slack)


def _is_cut(
    box: tuple[int, int, int, int], size: tuple[int, int], open_sides: Sequence[bool]
) -> bool:
    ends = (box[0] <= 0, box[1] <= 0, box[2] >= size[0], box[3] >= size[1])
    return any(end and open_ for end, open_ in zip(ends, open_sides, strict=True))


def _crop(window: Window, corner: NDArray[np.int64], shape: tuple[int, ...]) -> Window:
    """Return the part of a window that a mask covers."""
    height, width = shape
    cx, cy = window.to_level0((corner[0] + width / 2, corner[1] + height / 2))
    return replace(window, cx=float(cx), cy=float(cy), size=(width, height))
