"""Cuts labelled images into windows for models that learn from all that a window shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.models.window_trainable import UNNAMED, WindowTruth
from napari_histosam.slide import open_array
from napari_histosam.train.finetune.windows import SMALLEST_PX, centres, nearest, scale_of
from napari_histosam.train.windowed.validation import box_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.train.boxes import Boxed
    from napari_histosam.train.labelled import Entry

# An object of which the window shows less is neither there nor not there.
_SEEN = 0.25
# IoU from which on a listed box is that of an outlined object.
_SAME = 0.5


@dataclass(frozen=True)
class Part:
    """A window of a labelled image.

    Parameters
    ----------
    entry : Entry
    window : Window
        In px of the image.
    scales : tuple of float
        See `ModelCard.window_scales`.
    """

    entry: Entry
    window: Window
    scales: tuple[float, ...] = (1.0,)


class Seen(NamedTuple):
    """A window's images, finest first, and what is known of its objects."""

    images: tuple[NDArray[np.uint8], ...]
    truth: WindowTruth


class Marks(NamedTuple):
    """The n objects of an image: boxes (n, 4) in its px, class names, labels; and the label map."""

    boxes: NDArray[np.float64]
    names: tuple[str | None, ...]
    numbers: tuple[int | None, ...]
    labels: NDArray[np.int32] | None


class Source:
    """Reads images and what is known of their objects; keeps the last one.

    Parameters
    ----------
    classes : tuple of str
        The names of the classes, in the order of their numbers.
    boxes_only : bool
        Read no mask.
    """

    def __init__(self, classes: tuple[str, ...], *, boxes_only: bool) -> None:
        self._classes, self._boxes_only = classes, boxes_only
        self._last: tuple[str, NDArray[np.uint8], Marks, NDArray[np.bool_] | None] | None = None

    def whole(self, entry: Entry) -> tuple[NDArray[np.uint8], Marks, NDArray[np.bool_] | None]:
        """Return an image (h, w, 3), its objects, and where they are not known.

        Raises
        ------
        InputError
            If a file is damaged, or only boxes are wanted and none are listed.
        """
        key = f"{entry.set_name}/{entry.name}"
        if self._last is None or self._last[0] != key:
            image, marks = self._marked(entry)
            self._last = key, image, marks, entry.read_ignore()
        return self._last[1:]

    def read(self, part: Part) -> Seen:
        """Return a window with its objects; one that it hardly shows is marked as unknown."""
        image, marks, ignore = self.whole(part.entry)
        window = part.window
        size = np.array(window.size, np.float64)
        unknown = np.zeros(window.size[::-1], np.bool_)
        if ignore is not None:
            unknown |= nearest(ignore.astype(np.uint8), window) > 0
        labels = None if marks.labels is None else nearest(marks.labels, window)
        boxes, kinds, masks = [], [], []
        for box, name, number in zip(marks.boxes, marks.names, marks.numbers, strict=True):
            own = window.from_level0(box.reshape(2, 2)).reshape(4)
            cut = np.concatenate([own[:2].clip(0, size), own[2:].clip(0, size)])
            area, inside = _area(own), _area(cut)
            if inside <= 0:
                continue
            left, top, right, bottom = (round(value) for value in cut)
            shown = inside >= _SEEN * area and inside >= SMALLEST_PX
            unknown[top:bottom, left:right] = not shown
            if not shown:
                continue
            mask = None if labels is None or number is None else labels == number
            boxes.append(cut)
            kinds.append(self._kind(name))
            masks.append(mask if mask is not None and mask.any() else None)
        truth = WindowTruth(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(kinds, np.int64),
            masks if any(mask is not None for mask in masks) else None,
            unknown if unknown.any() else None,
        )
        with open_array([image], None, part.entry.name) as slide:
            images = tuple(
                slide.read(replace(window, scale=(window.scale[0] * s, window.scale[1] * s)))
                for s in part.scales
            )
        return Seen(images, truth)

    def _kind(self, name: str | None) -> int:
        if len(self._classes) == 1:
            return 0
        return self._classes.index(name) if name in self._classes else UNNAMED

    def _marked(self, entry: Entry) -> tuple[NDArray[np.uint8], Marks]:
        listed = entry.boxes or ()
        if self._boxes_only or entry.mask is None:
            if entry.boxes is None:
                raise without_boxes(entry)
            return entry.read_image(), Marks(
                np.array([one.box for one in listed], np.float64).reshape(-1, 4),
                tuple(_name(one, entry) for one in listed),
                (None,) * len(listed),
                None,
            )
        image, labels = entry.read()
        boxes: list[tuple[float, ...]] = []
        names: list[str | None] = []
        numbers: list[int | None] = []
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            if place is not None:
                y, x = place
                boxes.append((x.start, y.start, x.stop, y.stop))
                names.append(entry.class_of(number))
                numbers.append(number)
        outlined = np.array(boxes, np.float64).reshape(-1, 4)
        for one in listed:
            own = np.array([one.box], np.float64)
            if one.label is not None or (box_overlaps(own, outlined) >= _SAME).any():
                continue  # it has an outline
            boxes.append(one.box)
            names.append(_name(one, entry))
            numbers.append(None)
        place_of = np.array(boxes, np.float64).reshape(-1, 4)
        return image, Marks(place_of, tuple(names), tuple(numbers), labels)


def without_boxes(entry: Entry) -> InputError:
    """Return what to say of an image that lists no boxes where only boxes are wanted."""
    return InputError(
        f"No boxes are listed for {entry.name} of {entry.set_name}: give them in its index.json, "
        "or learn from masks, without --boxes-only."
    )


def class_names(found: Sequence[Entry], card: ModelCard) -> tuple[str, ...]:
    """Return the classes that images teach: the card's, unless they name several."""
    names = {name for entry in found for name in entry.classes.values()}
    names |= {one.name for entry in found for one in entry.boxes or () if one.name is not None}
    if len(names) < 2 or names <= set(card.classes):
        return card.classes
    return tuple(sorted(names))


def cut(
    found: Sequence[Entry],
    card: ModelCard,
    source: Source,
    note: Callable[[str], None] = lambda _: None,
) -> list[Part]:
    """Return the half-overlapping windows of images that show objects.

    Raises
    ------
    InputError
        If an image is damaged, or none shows an object.
    """
    out: list[Part] = []
    empty: list[str] = []
    for entry in found:
        image, marks, _ = source.whole(entry)
        height, width = image.shape[:2]
        scale = scale_of(entry, (width, height), card)
        side = card.window_px * scale
        middles = (marks.boxes[:, :2] + marks.boxes[:, 2:]) / 2
        before = len(out)
        for cy in centres(height, side):
            for cx in centres(width, side):
                off = np.abs(middles - (cx, cy)).max(1, initial=0)
                if not (off < side / 2).any():
                    continue
                window = Window(cx, cy, (scale, scale), (card.window_px, card.window_px))
                out.append(Part(entry, window, card.window_scales))
        if len(out) == before:
            empty.append(entry.name)
    if not out:
        raise InputError(f"No image shows an object ({', '.join(empty[:3])}): label some first.")
    if empty:
        note(f"Images that show no object are left out: {len(empty)} (for example {empty[0]}).")
    return out


def _name(one: Boxed, entry: Entry) -> str | None:
    if one.name is not None:
        return one.name
    return entry.classes.get("*") if one.label is None else entry.class_of(one.label)


def _area(box: NDArray[np.float64]) -> float:
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
