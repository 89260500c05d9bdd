"""Reads tiles ahead and shows them to the model, one after the other, in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.session.automate.plan import Tile
    from napari_histosam.slide import Slide

Seen = TypeVar("Seen", covariant=True)
Said = TypeVar("Said")
# Tiles read while the model is at work. Few, for they bound the memory used.
_AHEAD = 2


class Looker(Protocol[Seen]):
    """Whatever looks at tiles with a model: here, or on other machines."""

    def __call__(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Seen]]:
        """Yield what the model says of each tile, in the order of the tiles."""
        ...


class LookHere(Generic[Said]):
    """Looks at the tiles in this process, on the calling thread; they are read on another.

    Parameters
    ----------
    slide : Slide
    see : callable
        What the model makes of a window (h, w, 3): its ``find`` or ``probabilities``.
    """

    def __init__(self, slide: Slide, see: Callable[[NDArray[np.uint8]], Said]) -> None:
        self._slide = slide
        self._see = see

    def __call__(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Said]]:
        """Yield what the model says of each tile, in the order of the tiles."""
        with closing(read_ahead(self._slide, tiles)) as read:
            for tile, pixels in read:
                yield tile, self._see(pixels)


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
