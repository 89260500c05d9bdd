"""Chooses the scale of the windows: a model's own, or one at which objects have a fitting size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.train.dataset.request import Settings

    Mpp = tuple[float, float]

# Enlarging shows nothing new beyond this many level-0 px per window px.
FINEST = 0.5


@dataclass(frozen=True)
class Scale:
    """The scale of a data set's finest windows.

    Parameters
    ----------
    mpp : float, optional
        µm per window px on slides that know theirs; None where no slide does.
    px : float
        Level-0 px per window px on slides without mpp.
    most : float
        Window px that an object's longer side may have; larger ones get windows 2, 4, … times
        as coarse.
    why : str
        How it was chosen, for people.
    finest : float
        Level-0 px per window px below which a slide is not enlarged: one that is much coarser than
        the others gets windows 2, 4, … times as coarse, too. 0 where a model wants its scale.
    """

    mpp: float | None
    px: float
    most: float
    why: str
    finest: float = 0.0

    def of(self, mpp: Mpp | None) -> tuple[float, float]:
        """Return level-0 px per window px along x and y on a slide with some mpp or none."""
        if mpp is None or self.mpp is None:
            return self.px, self.px
        return self.mpp / mpp[0], self.mpp / mpp[1]

    def octave(self, shape: BaseGeometry, mpp: Mpp | None) -> int:
        """Return how often windows must be coarsened twofold for an object to fit (0: not)."""
        side = longer_side(shape, self.of(mpp))
        return max(self.first_octave(mpp), _doublings(side / self.most))

    def first_octave(self, mpp: Mpp | None) -> int:
        """Return how often windows of a slide are coarsened twofold at least."""
        return _doublings(self.finest / min(self.of(mpp)))


def _doublings(factor: float) -> int:
    """Return how many doublings make up for a factor, 0 for one of at most 1."""
    return math.ceil(math.log2(factor) - 1e-9) if factor > 1 else 0


def longer_side(shape: BaseGeometry, scale: tuple[float, float]) -> float:
    """Return the longer side of an outline's upright box in window px."""
    left, top, right, bottom = shape.bounds
    return max((right - left) / scale[0], (bottom - top) / scale[1])


def margin_of(size: int) -> int:
    """Return the px between an object and the edge of a window in which it counts as whole."""
    return size // 32


def choose_scale(
    settings: Settings,
    slides: Sequence[tuple[Mpp | None, Sequence[BaseGeometry]]],
    earlier: tuple[float | None, float | None, str] | None = None,
) -> Scale:
    """Choose the scale for a data set.

    Parameters
    ----------
    settings : Settings
        A given ``mpp`` stands. Else the scale is the coarsest of … 0.125, 0.25, 0.5, 1 … µm/px at
        which three quarters of the objects have the least wanted size or more, but no finer than
        a twofold enlargement of the finest slide; slides that are coarser still are not enlarged
        by more. For slides without mpp the same is done in level-0 px if ``mpp`` is not given,
        else their px are taken as they are.
    slides : sequence of (mpp or None, outlines in level-0 px)
    earlier : (mpp or None, px or None, why), optional
        The scale that the folder's data set has; kept where the objects alone would decide, so
        that a few more objects do not make all windows anew.
    """
    room = float(settings.size - 2 * margin_of(settings.size))
    measured = [(mpp, shapes) for mpp, shapes in slides if mpp is not None]
    bare = [shapes for mpp, shapes in slides if mpp is None]
    if settings.mpp is not None:
        by = f"the model {settings.model}" if settings.model else "the user"
        return Scale(
            settings.mpp if measured else None, 1.0, room, f"{settings.mpp:g} µm/px, as {by} wants"
        )
    least = settings.object_px[0]
    most = min(settings.object_px[1], room)
    mpp, px, before = earlier or (None, None, "")
    known = (mpp is not None or not measured) and (px is not None or not bare)
    if mpp is None and measured:
        sides = [
            longer_side(shape, (1 / at[0], 1 / at[1]))
            for at, shapes in measured
            for shape in shapes
        ]
        mpp = max(_coarsest(sides, least), FINEST * min(min(at) for at, _ in measured))
    if px is None:
        sides = [longer_side(shape, (1.0, 1.0)) for shapes in bare for shape in shapes]
        px = max(_coarsest(sides, least), FINEST) if bare else 1.0
    if before and known:
        return Scale(mpp if measured else None, px, most, before, FINEST)
    units = [f"{mpp:g} µm/px"] if measured else []
    units += [f"{px:g} level-0 px per px where a slide has no µm"] if bare else []
    why = f"so that most objects are {least:g} to {most:g} px long"
    told = f"{' and '.join(units)}, {why}"
    return Scale(mpp if measured else None, px, most, told, FINEST)


def _coarsest(sides: Sequence[float], least: float) -> float:
    """Return the largest power of two by which a lower quartile may be divided."""
    usual = float(np.quantile(sides, 0.25)) if len(sides) else 0.0
    return float(2.0 ** math.floor(math.log2(usual / least))) if usual > 0 else 1.0
