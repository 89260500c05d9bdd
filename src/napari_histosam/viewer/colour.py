"""Colour correction by the slide's ICC profile, for the screen only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.viewer.pyramid import OptimisticPyramid, TilePyramid

    Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class ColouredTiles:
    """A tile pyramid whose tiles pass through a colour transform, if one is set.

    Models never see this: they read the slide itself.
    """

    def __init__(self, tiles: TilePyramid) -> None:
        self._tiles = tiles
        self.transform: Transform | None = None

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Height and width of each level."""
        return self._tiles.shapes

    @property
    def tile(self) -> int:
        """Side of a tile in px."""
        return self._tiles.tile

    def read_tile(self, level: int, row: int, col: int) -> NDArray[np.uint8]:
        """Return a tile, colour corrected if a transform is set."""
        tile = self._tiles.read_tile(level, row, col)
        return self.transform(tile) if self.transform else tile


def set_transform(pyramid: OptimisticPyramid, transform: Transform | None) -> None:
    """Switch the correction on or off and draw what is on screen anew."""
    tiles = pyramid.tiles
    if isinstance(tiles, ColouredTiles) and tiles.transform is not transform:
        tiles.transform = transform
        pyramid.outdate_all()
