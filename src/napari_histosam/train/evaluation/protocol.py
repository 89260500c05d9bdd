"""Asks a prompt model for every object of labelled images, as a user would, and keeps the IoUs.

The first click is the point deepest inside the object, the next ones are deepest inside the
largest error; the box is the tight one with each side moved by up to 5 % of its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from napari_histosam.train.simulate import (
    Click,
    any_point,
    deepest_point,
    jittered,
    next_click,
    tight_box,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_histosam.train.labelled import Entry

    Mask = NDArray[np.bool_]

CLICKS = 3
JITTER = 0.05
# Objects of fewer px are marks, not shapes.
SMALLEST_PX = 30


class Reply(Protocol):
    """A model's answer to the prompts of one object."""

    @property
    def masks(self) -> Sequence[Mask]:
        """What is offered, best first, at least one: (h, w) bool on the image's grid."""
        ...

    @property
    def scores(self) -> Sequence[float]:
        """Predicted IoUs."""
        ...

    @property
    def encode_ms(self) -> float:
        """Time spent encoding; 0 where the window was known already."""
        ...

    @property
    def decode_ms(self) -> float:
        """Time spent decoding."""
        ...


class Subject(Protocol):
    """A model looking at one image: what is evaluated."""

    def ask(self, clicks: Sequence[Click], box: NDArray[np.float64] | None) -> Reply:
        """Answer all prompts of one object so far, in px of the image.

        Clicks come one by one: a call with one more click than the last follows up on it.
        """
        ...

    def forget(self) -> None:
        """Start on another object."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of one object.

    Parameters
    ----------
    entry : Entry
    number, area : int
        Label and px.
    cut : bool
        Whether the image's border cuts the object.
    prompted_box : tuple of float
        The box that was given: left, top, right, bottom in px.
    clicks : tuple of float
        IoU after 1, 2, … clicks; the last one stands where no error was left to click.
    random, box, ellipse : float
        IoU after one click anywhere inside, by the box, and of the ellipse in the same box.
    click_score, box_score : float
        Predicted IoUs of the first click's and the box's mask.
    offered : tuple of float
        IoUs of the masks offered for the first click, in their order.
    followed : tuple of (bool, bool)
        For each correcting click, whether it was positive and whether the mask followed it.
    encode_ms, decode_ms : tuple of float
        Of the calls that encoded, and of all calls.
    """

    entry: Entry
    number: int
    area: int
    cut: bool
    prompted_box: tuple[float, ...]
    clicks: tuple[float, ...]
    random: float
    box: float
    ellipse: float
    click_score: float
    box_score: float
    offered: tuple[float, ...]
    followed: tuple[tuple[bool, bool], ...]
    encode_ms: tuple[float, ...]
    decode_ms: tuple[float, ...]


@dataclass
class _Times:
    encode: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)

    def note(self, reply: Reply) -> Reply:
        if reply.encode_ms > 0:
            self.encode.append(reply.encode_ms)
        self.decode.append(reply.decode_ms)
        return reply


def outcomes(
    entry: Entry,
    labels: NDArray[np.integer],
    subject: Subject,
    *,
    seed: int,
    most: int | None = None,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Ask for the objects of one image and yield what came of each.

    Parameters
    ----------
    entry : Entry
    labels : (h, w) int array
    subject : Subject
        Looking at that image.
    seed : int
        Of the box's jitter and the random click, with the image's name; so every model gets the
        same prompts.
    most : int, optional
        Objects at most, drawn by the seed.
    stop : callable
        Called before each object; may raise.
    """
    rng = np.random.default_rng([seed, *entry.name.encode()])
    counts = np.bincount(labels.ravel())
    numbers = np.flatnonzero(counts >= SMALLEST_PX)
    numbers = numbers[numbers > 0]
    if entry.homes is not None:
        # Overlapping windows show an object again; once is enough.
        numbers = numbers[np.isin(numbers, list(entry.homes))]
    if most is not None and len(numbers) > most:
        numbers = np.sort(rng.choice(numbers, most, replace=False))
    for number in numbers:
        stop()
        truth = labels == number
        tight = tight_box(truth)
        assert tight is not None  # it has px
        yield _one(entry, int(number), truth, tight, subject, rng)


def iou(a: Mask, b: Mask) -> float:
    """Return the intersection over union of two masks; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def ellipse_in(box: NDArray[np.float64], shape: tuple[int, ...]) -> Mask:
    """Return the ellipse inscribed in a box as a mask: the baseline of every box prompt."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    rx, ry = max((box[2] - box[0]) / 2, 0.5), max((box[3] - box[1]) / 2, 0.5)
    return ((columns + 0.5 - cx) / rx) ** 2 + ((rows + 0.5 - cy) / ry) ** 2 <= 1


def box_again(outcome: Outcome) -> NDArray[np.float64]:
    """Return the box that an object was prompted with."""
    return np.array(outcome.prompted_box)


def _one(
    entry: Entry,
    number: int,
    truth: Mask,
    tight: NDArray[np.float64],
    subject: Subject,
    rng: np.random.Generator,
) -> Outcome:
    times = _Times()
    # Drawn first, so that a model's answers cannot change the prompts of the next object.
    box = jittered(tight, JITTER, rng)
    anywhere = Click(*any_point(truth, rng), True)

    clicks = [Click(*deepest_point(truth), True)]
    first = reply = times.note(subject.ask(clicks, None))
    ious = [iou(truth, reply.masks[0])]
    followed = []
    while len(ious) < CLICKS:
        click = next_click(truth, reply.masks[0])
        if click is None:
            ious.append(ious[-1])
            continue
        clicks.append(click)
        reply = times.note(subject.ask(clicks, None))
        ious.append(iou(truth, reply.masks[0]))
        inside = bool(reply.masks[0][int(click.y), int(click.x)])
        followed.append((click.positive, inside == click.positive))
    subject.forget()
    random = times.note(subject.ask([anywhere], None))
    subject.forget()
    boxed = times.note(subject.ask([], box))
    subject.forget()
    height, width = truth.shape
    cut = tight[0] == 0 or tight[1] == 0 or tight[2] == width or tight[3] == height
    return Outcome(
        entry=entry,
        number=number,
        area=int(np.count_nonzero(truth)),
        cut=bool(cut),
        prompted_box=tuple(box.tolist()),
        clicks=tuple(ious),
        random=iou(truth, random.masks[0]),
        box=iou(truth, boxed.masks[0]),
        ellipse=iou(truth, ellipse_in(box, truth.shape)),
        click_score=float(first.scores[0]),
        box_score=float(boxed.scores[0]),
        offered=tuple(iou(truth, mask) for mask in first.masks),
        followed=tuple(followed),
        encode_ms=tuple(times.encode),
        decode_ms=tuple(times.decode),
    )


def contours(mask: Mask) -> list[NDArray[np.int32]]:
    """Return the outlines of a mask, for pictures."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(one, np.int32) for one in found]
