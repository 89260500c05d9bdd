"""From a mask of an image, of areas or of objects, to a map of the classes that a model tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.models.window_trainable import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.train.labelled import Entry


def area_map(entry: Entry, classes: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image and its areas.

    Parameters
    ----------
    entry : Entry
        With a semantic mask, or an instance mask, whose objects are areas of their classes.
    classes : tuple of str
        With a single one, everything that has a label is of it. With several, a label without a
        name is unknown, and one with another name is none of them.

    Returns
    -------
    image : (h, w, 3) uint8 array
    areas : (h, w) uint8 array
        As `napari_histosam.models.window_trainable.WindowTruth` has them.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    image, labels = entry.read()
    shown, place = np.unique(labels, return_inverse=True)
    numbers = np.array([_number(entry, int(label), classes) for label in shown], np.uint8)
    areas = numbers[place].reshape(labels.shape)
    ignore = entry.read_ignore()
    if ignore is not None:
        areas[ignore] = UNKNOWN
    return image, areas


def area_names(found: Sequence[Entry], card: ModelCard, one: str | None = None) -> tuple[str, ...]:
    """Return the classes that images teach.

    Parameters
    ----------
    found : sequence of Entry
    card : ModelCard
        Its classes stay where the images name no others, or no more than one where it has one.
    one : str, optional
        Take everything as one class of this name.
    """
    if one is not None:
        return (one,)
    names = {name for entry in found for name in entry.classes.values()}
    if names <= set(card.classes) or len(names) == len(card.classes) == 1:
        return card.classes
    return tuple(sorted(names))


def _number(entry: Entry, label: int, classes: tuple[str, ...]) -> int:
    if label == 0:
        return 0
    if entry.semantic and label == UNKNOWN:
        return UNKNOWN
    if len(classes) == 1:
        return 1
    name = entry.class_of(label)
    if name is None:
        return UNKNOWN
    return classes.index(name) + 1 if name in classes else 0
