"""Cuts labelled images into the windows that a model would see, and reads them again when needed.

Scales and pixels are those of use: the card's µm per px where both know it, else the zoom at which
the image as a whole fills a screen, in steps of two, enlarged twofold at most.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.slide import open_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.train.labelled import Entry

# Objects of fewer window px are marks, not shapes.
SMALLEST_PX = 24
# As in use: screen px that a picture fills, and the finest scale.
_SCREEN, _FINEST = 1024, 0.5
_KEPT_IMAGES = 6


@dataclass(frozen=True)
class Sample:
    """A window of a labelled image with the objects that are asked for in it.

    Parameters
    ----------
    entry : Entry
    window : Window
        In px of the image.
    numbers : tuple of int
        Labels of the objects that this window shows better than any other.
    turn : int
        How often the same window was taken before in an epoch.
    scales : tuple of float
        Of the concentric windows that the model looks at, see `ModelCard.window_scales`.
    boxes : bool
        The model takes boxes only.
    """

    entry: Entry
    window: Window
    numbers: tuple[int, ...]
    turn: int = 0
    scales: tuple[float, ...] = (1.0,)
    boxes: bool = False


class Wider(NamedTuple):
    """A coarser window around the same centre: image (side, side, 3), labels (side, side)."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class View:
    """A window's content.

    Parameters
    ----------
    image : (side, side, 3) uint8 array
    labels : (side, side) int32 array
    prompts : mapping of int to ObjectPrompts
        The user's first prompt for an object, by label, where it is recorded; window px.
    wider : tuple of Wider
        Coarser windows, where the model looks at several.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    prompts: Mapping[int, ObjectPrompts] = field(default_factory=dict)
    wider: tuple[Wider, ...] = ()

    @property
    def images(self) -> tuple[NDArray[np.uint8], ...]:
        """The images of all windows, finest first."""
        return (self.image, *(one.image for one in self.wider))


class Reader:
    """Reads the windows of samples; keeps the images that it read last.

    Not safe from several threads.
    """

    def __init__(self) -> None:
        self._images: OrderedDict[str, tuple] = OrderedDict()

    def read(self, sample: Sample) -> View:
        """Return a sample's window.

        Raises
        ------
        InputError
            If the image is gone or damaged.
        """
        image, labels = self.whole(sample.entry)
        window = sample.window
        windows = [
            replace(window, scale=(window.scale[0] * scale, window.scale[1] * scale))
            for scale in sample.scales
        ]
        with open_array([image], None, sample.entry.name) as slide:
            seen = [Wider(slide.read(one), nearest(labels, one)) for one in windows]
        return View(*seen[0], _prompts(sample), tuple(seen[1:]))

    def whole(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return image (h, w, 3) and labels (h, w)."""
        key = str(entry.image)
        if key not in self._images:
            self._images[key] = entry.read()
            while len(self._images) > _KEPT_IMAGES:
                self._images.popitem(last=False)
        self._images.move_to_end(key)
        return self._images[key]


def cut(
    found: Sequence[Entry], card: ModelCard, note: Callable[[str], None] = lambda _: None
) -> list[Sample]:
    """Return the windows of images that show objects.

    Every image is read once here, so that a damaged one is found before any training.

    Parameters
    ----------
    found : sequence of Entry
    card : ModelCard
        Its window and scale.
    note : callable of str
        Gets a sentence about what cannot be used.

    Raises
    ------
    InputError
        If an image is damaged, or none shows an object.
    """
    reader = Reader()
    out: list[Sample] = []
    empty = []
    for entry in found:
        _, labels = reader.whole(entry)
        samples = _windows(entry, labels, card)
        out += samples
        if not samples:
            empty.append(entry.name)
    if empty and out:
        note(
            f"{len(empty)} images show no object and are left out (for example {empty[0]})."
            if len(empty) > 1
            else f"{empty[0]} shows no object and is left out."
        )
    if not out:
        raise InputError(
            f"No mask shows an object ({', '.join(empty[:3])}{' …' if len(empty) > 3 else ''}): "
            "label some first."
        )
    return out


def parts_of(card: ModelCard, side: int) -> int:
    """Return how many windows of a model cover an image of ``side`` px at the model's scale."""
    scale = 1.0 if card.mpp is not None else _picture_scale(side, card)
    return len(centres(side, card.window_px * scale)) ** 2


def _prompts(sample: Sample) -> dict[int, ObjectPrompts]:
    """Return what is recorded of the first prompts, as far as it lies in the window."""
    size = np.array(sample.window.size, np.float64)
    found = {}
    for number in sample.numbers:
        told = sample.entry.recorded.get(number)
        if told is None:
            continue
        box = told.used or told.box if sample.boxes else told.box
        if told.click is not None and not sample.boxes:
            at = sample.window.from_level0(np.array([told.click]))
            if ((at >= 0) & (at < size)).all():
                found[number] = ObjectPrompts(at, np.array([1]))
        elif box is not None:
            corners = sample.window.from_level0(np.array(box).reshape(2, 2)).clip(0, size)
            if (corners[1] > corners[0]).all():
                found[number] = ObjectPrompts(box=corners.ravel())
    return found


def _windows(entry: Entry, labels: NDArray[np.int32], card: ModelCard) -> list[Sample]:
    height, width = labels.shape
    plain = scale_of(entry, (width, height), card)
    counts = np.bincount(labels.ravel())
    chosen: dict[tuple[float, float, float], list[int]] = {}
    for number, bounds in _bounds(labels).items():
        scale = plain * _towards(bounds, plain, card)
        if counts[number] / scale**2 < SMALLEST_PX:
            continue
        if entry.homes is not None and number not in entry.homes:
            continue  # another image shows it better and asks for it
        left, top, right, bottom = bounds
        side = card.window_px * scale
        columns, rows = centres(width, side), centres(height, side)
        # Of half-overlapping windows, the one whose middle is nearest cuts the object least.
        at = scale, _nearest_of(columns, (left + right) / 2), _nearest_of(rows, (top + bottom) / 2)
        chosen.setdefault(at, []).append(number)
    size = (card.window_px, card.window_px)
    return [
        Sample(
            entry,
            Window(cx, cy, (scale, scale), size),
            tuple(numbers),
            scales=card.window_scales,
            boxes="point" not in card.prompts,
        )
        for (scale, cx, cy), numbers in sorted(chosen.items())
    ]


def scale_of(entry: Entry, size: tuple[int, int], card: ModelCard) -> float:
    """Return px of the image per px of the window."""
    return picture_scale(size, entry.mpp, card)


def picture_scale(size: tuple[int, int], mpp: float | None, card: ModelCard) -> float:
    """Return px per px of the window, of a picture of ``size`` px, ``mpp`` µm each."""
    if card.mpp is not None and mpp is not None:
        return card.mpp / mpp
    return _picture_scale(max(size), card)


def _towards(bounds: tuple[int, int, int, int], scale: float, card: ModelCard) -> float:
    """Return by which power of two a window is coarser for an object, as in use.

    Only models that take boxes alone know an object's size before they look.
    """
    if card.object_px is None or "point" in card.prompts:
        return 1.0
    left, top, right, bottom = bounds
    side, (least, most) = max(right - left, bottom - top) / scale, card.object_px
    if side > most:
        return 2.0 ** math.ceil(math.log2(side / most))
    if side < least:
        return max(2.0 ** -math.ceil(math.log2(least / side)), _FINEST / scale)
    return 1.0


def _picture_scale(side: float, card: ModelCard) -> float:
    step = math.log2(side / _SCREEN)
    # A model that looks at coarser scales itself gets the finer one, as in use.
    step = math.floor(step + 1e-6) if card.object_px is not None else round(step)
    return max(2.0**step, _FINEST)


def centres(length: int, side: float) -> list[float]:
    """Return the middles of half-overlapping windows that cover a length, within it."""
    if length <= side:
        return [length / 2]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [float(c) for c in np.linspace(side / 2, length - side / 2, count)]


def _nearest_of(middles: list[float], at: float) -> float:
    return min(middles, key=lambda middle: abs(middle - at))


def _bounds(labels: NDArray[np.int32]) -> dict[int, tuple[int, int, int, int]]:
    from scipy import ndimage

    out = {}
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if place is not None:
            y, x = place
            out[number] = (x.start, y.start, x.stop, y.stop)
    return out


def nearest(image: NDArray, window: Window) -> NDArray:
    """Return a map of the image's px on a window's grid, 0 beyond the image."""
    left, top, _, _ = window.bounds
    sx, sy = window.scale
    # From pixel centres of the window to those of the image.
    matrix = np.array([[sx, 0, left + sx / 2 - 0.5], [0, sy, top + sy / 2 - 0.5]])
    # OpenCV warps no 32-bit integers; floats hold labels up to 2**24 exactly.
    out = cv2.warpAffine(
        image.astype(np.float32),
        matrix,
        window.size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(out).astype(image.dtype)
