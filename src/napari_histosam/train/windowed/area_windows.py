"""Cuts labelled images into windows for models that tell areas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.models.window_trainable import UNKNOWN, WindowTruth
from napari_histosam.slide import open_array
from napari_histosam.train.area_maps import area_map
from napari_histosam.train.finetune.windows import centres, nearest, scale_of
from napari_histosam.train.windowed.windows import Part, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.train.labelled import Entry


class AreaSource:
    """Reads images and their areas; keeps the last one.

    Parameters
    ----------
    classes : tuple of str
        See `napari_histosam.train.area_maps.area_map`.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._last: tuple[str, NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def whole(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image (h, w, 3) and its areas (h, w)."""
        key = f"{entry.set_name}/{entry.name}"
        if self._last is None or self._last[0] != key:
            self._last = key, *area_map(entry, self.classes)
        return self._last[1:]

    def read(self, part: Part) -> Seen:
        """Return a window with its areas; those beyond the image are unknown."""
        image, areas = self.whole(part.entry)
        window = part.window
        # Beyond the image there is 0.
        shown = nearest(areas.astype(np.int16) + 1, window)
        truth = np.where(shown == 0, UNKNOWN, shown - 1).astype(np.uint8)
        with open_array([image], None, part.entry.name) as slide:
            images = tuple(
                slide.read(replace(window, scale=(window.scale[0] * s, window.scale[1] * s)))
                for s in part.scales
            )
        return Seen(images, WindowTruth.of_areas(truth))


def cut_areas(
    found: Sequence[Entry],
    card: ModelCard,
    source: AreaSource,
    note: Callable[[str], None] = lambda _: None,
) -> list[Part]:
    """Return the half-overlapping windows of images of which something is known.

    Raises
    ------
    InputError
        If an image is damaged, or none shows an area of a class.
    """
    out: list[Part] = []
    empty: list[str] = []
    shown = False
    for entry in found:
        image, areas = source.whole(entry)
        known = areas != UNKNOWN
        if not known.any():
            empty.append(entry.name)
            continue
        shown |= bool(areas[known].any())
        height, width = image.shape[:2]
        scale = scale_of(entry, (width, height), card)
        side = card.window_px * scale
        for cy in centres(height, side):
            for cx in centres(width, side):
                window = Window(cx, cy, (scale, scale), (card.window_px, card.window_px))
                left, top, right, bottom = (round(max(at, 0)) for at in window.bounds)
                if known[top:bottom, left:right].any():
                    out.append(Part(entry, window, card.window_scales))
    if not shown:
        names = ", ".join(entry.name for entry in found[:3])
        raise InputError(
            f"No mask shows an area of {' or '.join(source.classes)} ({names}"
            f"{' …' if len(found) > 3 else ''}): outline some, for training and for validation; "
            f"{UNKNOWN} stands for what is unknown."
        )
    if empty:
        note(f"Images of which nothing is known are left out: {len(empty)} (such as {empty[0]}).")
    return out
