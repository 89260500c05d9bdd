"""The training images of the bundled model, in memory, with their objects measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from napari_histosam.train.labelled import entries, read_all

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

# Objects of fewer px have no shape to learn.
SMALLEST_PX = 24


@dataclass(frozen=True)
class Source:
    """A split of a folder of images, as ``splits.json`` beside the sets lists it.

    Parameters
    ----------
    root : Path
        Folder that holds ``splits.json`` and one folder per set.
    set_name, split : str
    """

    root: Path
    set_name: str
    split: str


@dataclass(frozen=True)
class Picture:
    """One training image.

    Parameters
    ----------
    name : str
    kind : str
        Which data set it is from: the first part of its name.
    image : (h, w, 3) uint8 array
    labels : (h, w) uint16 array
        0 for background, else the number of the object.
    bounds : (n, 4) int array
        Left, top, right, bottom of the objects that are large enough.
    numbers : (n,) int array
        Their labels.
    areas : (n,) int array
        In px.
    """

    name: str
    kind: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    bounds: NDArray[np.int64]
    numbers: NDArray[np.int64]
    areas: NDArray[np.int64]

    @cached_property
    def levels(self) -> list[NDArray[np.uint8]]:
        """The image halved again and again by area averaging, so that shrinking does not alias."""
        out = [self.image]
        while min(out[-1].shape[:2]) > 96:
            h, w = out[-1].shape[:2]
            half = cv2.resize(out[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA)
            out.append(np.asarray(half, np.uint8))
        return out

    @property
    def fluorescent(self) -> bool:
        """Whether it shows bright nuclei on a dark ground."""
        return self.kind == "dsbf"


def read_pool(sources: Iterable[Source]) -> list[Picture]:
    """Read all images of some splits.

    Raises
    ------
    InputError
        If a folder lacks its index, a split or a file.
    """
    return [picture for source in sources for picture in _read(source)]


def measured(name: str, image: NDArray[np.uint8], labels: NDArray[np.uint16]) -> Picture:
    """Return an image with its objects measured; those under `SMALLEST_PX` are left out."""
    counts = np.bincount(labels.ravel())
    rows = []
    for number, place in enumerate(ndimage.find_objects(labels.astype(np.int32)), 1):
        if place is not None and counts[number] >= SMALLEST_PX:
            y, x = place
            rows.append((number, x.start, y.start, x.stop, y.stop, counts[number]))
    table = np.array(rows, np.int64).reshape(-1, 6)
    kind = name.split("_")[0]
    return Picture(name, kind, image, labels, table[:, 1:5], table[:, 0], table[:, 5])


def _read(source: Source) -> list[Picture]:
    found = entries(source.root / source.set_name, [source.split])
    pictures = [
        measured(entry.name, image, labels.astype(np.uint16))
        for entry, image, labels in read_all(found)
    ]
    return [picture for picture in pictures if len(picture.numbers)]
