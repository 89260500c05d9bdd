"""Reads tiles ahead and shows them to the model, one after the other, in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.models.automatic import AutomaticModel, Detections
    from napari_histosam.session.automate.plan import Tile
    from napari_histosam.slide import Slide

# Tiles read while the model is at work. Few, for they bound the memory used.
_AHEAD = 2


class Looker(Protocol):
    """Whatever finds the objects of tiles: here, or on other machines."""

    def __call__(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Detections]]:
        """Yield what was found in each tile, in the order of the tiles."""
        ...


class LookHere:
    """Looks at the tiles in this process, on the calling thread; they are read on another.

    Parameters
    ----------
    slide : Slide
    model : AutomaticModel
    """

    def __init__(self, slide: Slide, model: AutomaticModel) -> None:
        self._slide = slide
        self._model = model

    def __call__(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Detections]]:
        """Yield what was found in each tile, in the order of the tiles."""
        with closing(read_ahead(self._slide, tiles)) as read:
            for tile, pixels in read:
                yield tile, self._model.find(pixels)


def read_ahead(
    slide: Slide, tiles: Iterator[Tile]
) -> Generator[tuple[Tile, NDArray[np.uint8]], None, None]:
    """Yield each tile with its pixels (h, w, 3), read on another thread while others are used."""
    with ThreadPoolExecutor(1, thread_name_prefix="histosam-tiles") as reader:
        ahead = deque(
            (tile, reader.submit(slide.read, tile.window)) for tile in islice(tiles, _AHEAD)
        )
        try:
            while ahead:
                tile, image = ahead.popleft()
                pixels = image.result()
                following = next(tiles, None)
                if following is not None:
                    ahead.append((following, reader.submit(slide.read, following.window)))
                yield tile, pixels
        finally:
            for _, image in ahead:
                image.cancel()
