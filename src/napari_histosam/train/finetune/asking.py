"""What is asked for in a window: an object, first prompts for it, and where the decoder looks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.trainable import boxes_only
from napari_histosam.train.finetune.windows import View, Wider
from napari_histosam.train.simulate import deepest_point, jittered, tight_box
from napari_histosam.train.small.prompting import Asked, first_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.models.trainable import Place, Trainable

    Mask = NDArray[np.bool_]

# Share of clicks that are answered at a scale that does not suit the object, so that scores keep
# telling the scales apart.
_OTHER_SCALE = 0.25
_JITTER = 0.05
_OUTWARD, _STATED_FOR = 19, 384
# Share of questions that begin with the user's own first prompt, where it is recorded. The others
# are drawn: one place for each object would be learned by heart.
_RECORDED = 0.25


@dataclass
class Question:
    """One object that is asked for.

    Parameters
    ----------
    window : int
        Which of a batch's windows shows it.
    number : int
        Its label.
    place : Place
        Where the decoder looks.
    asked : Asked
        Prompts and truth, in net px of the place.
    area : float
        Of the whole object in net px.
    rng : numpy Generator
        Of this object alone, so that it does not matter which objects share its batch.
    around : tuple of (height, width) bool arrays
        The object in the coarser windows, as the place shows them.
    """

    window: int
    number: int
    place: Place
    asked: Asked
    area: float
    rng: np.random.Generator
    around: tuple[Mask, ...] = ()


def question(
    model: Trainable, view: View, number: int, window: int, rng: np.random.Generator
) -> Question | None:
    """Ask for an object as some user might: with the user's own prompt, or at random.

    Returns
    -------
    Question or None
        None where the place shows nothing of the object.
    """
    truth = view.labels == number
    sub, (left, top) = _surroundings(truth)
    if sub is None:
        return None
    asked = first_prompts(sub, np.zeros_like(sub), rng)
    earlier = None
    if asked.previous is not None:
        earlier = np.zeros((truth.shape[0] // 2, truth.shape[1] // 2), np.float32)
        _paste(earlier, asked.previous, left // 2, top // 2)
    corner = np.array([left, top], np.float64)
    points = np.array(asked.points, np.float64).reshape(-1, 2) + corner
    box = None if asked.box is None else asked.box + np.tile(corner, 2)
    prompts = ObjectPrompts(points, np.array(asked.labels), box)
    if boxes_only(model):
        prompts, earlier, asked.corrections = _boxed(truth, rng), None, 0
    given = view.prompts.get(number)
    if given is not None and _hits(given, truth) and rng.random() < _RECORDED:
        prompts, earlier = given, None
    places = model.places(prompts, earlier, (truth.shape[1], truth.shape[0]))
    side = math.sqrt(float(truth.sum()))
    place = min(places, key=lambda one: abs(math.log(side / one.factor / model.object_px)))
    if len(places) > 1 and rng.random() < _OTHER_SCALE:
        place = places[int(rng.integers(len(places)))]
    made = _in_place(prompts, earlier, truth, place, window, number, rng)
    if made is not None:
        made.asked.corrections = asked.corrections
        made.around = tuple(place.cut(one.labels == number) > 0.5 for one in view.wider)
    return made


def plain_questions(
    model: Trainable,
    view: View,
    number: int,
    window: int,
    rng: np.random.Generator,
    kind: str,
) -> list[Question]:
    """Ask for an object as the protocol of `histosam evaluate` does, at all places in use.

    Parameters
    ----------
    model : Trainable
    view : View
    number, window : int
    rng : numpy Generator
        Of the box's jitter.
    kind : {"click", "box"}
        The click lies deepest inside; each side of the box is moved by up to 5 %.

    Returns
    -------
    list of Question
        One for each place that competes; none where the window does not show the object, or for
        a click where the model takes boxes only.
    """
    truth = view.labels == number
    tight = tight_box(truth)
    if tight is None or (kind == "click" and boxes_only(model)):
        return []
    prompts = ObjectPrompts(box=jittered(tight, _JITTER, rng))
    if kind == "click":
        sub, (left, top) = _surroundings(truth)
        assert sub is not None  # it has a box
        x, y = deepest_point(sub)
        prompts = ObjectPrompts(np.array([[x + left, y + top]]), np.array([1]))
    places = model.places(prompts, None, (truth.shape[1], truth.shape[0]))
    found = [_in_place(prompts, None, truth, place, window, number, rng) for place in places]
    return [one for one in found if one is not None]


def turned(view: View, rng: np.random.Generator, recolour: Callable | None = None) -> View:
    """Return a window in one of the eight ways to lay it down, now and then recoloured."""
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    side = view.image.shape[0]

    def laid(a: NDArray) -> NDArray:
        a = np.rot90(a, turns)
        return np.ascontiguousarray(a[:, ::-1] if flip else a)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        for _ in range(turns):
            xy = np.stack([xy[..., 1], side - xy[..., 0]], -1)
        return np.stack([side - xy[..., 0], xy[..., 1]], -1) if flip else xy

    def told(one: ObjectPrompts) -> ObjectPrompts:
        if one.box is not None:
            corners = moved(one.box.reshape(2, 2))
            return replace(one, box=np.concatenate([corners.min(0), corners.max(0)]))
        assert one.points is not None  # a click or a box
        return replace(one, points=moved(one.points))

    prompts = {number: told(one) for number, one in view.prompts.items()}
    images = [laid(image) for image in view.images]
    if recolour is not None:
        # All windows of a view come from one laboratory.
        images = np.split(recolour(np.concatenate(images), rng), len(images))
    wider = tuple(
        Wider(image, laid(one.labels)) for image, one in zip(images[1:], view.wider, strict=True)
    )
    return View(images[0], laid(view.labels), prompts, wider)


def _boxed(truth: Mask, rng: np.random.Generator) -> ObjectPrompts:
    """Return a box round an object, each side moved outward by up to 19 px within the window.

    In windows of less than 384 px, for which I-MedSAM states them, by as much less.

    So SAM's descendants for boxes learn (MedSAM, arXiv 2304.12306; I-MedSAM, arXiv 2311.17081).
    """
    tight = tight_box(truth)
    assert tight is not None
    height, width = truth.shape
    most = round(_OUTWARD * min(max(height, width) / _STATED_FOR, 1.0))
    out = tight + rng.integers(0, most + 1, 4) * np.array([-1, -1, 1, 1])
    return ObjectPrompts(box=out.clip(0, [width, height, width, height]))


def _hits(given: ObjectPrompts, truth: Mask) -> bool:
    """Tell whether a recorded click lies on the object; a box always counts."""
    if given.points is None or not len(given.points):
        return True
    x, y = given.points[0].astype(int)
    return bool(truth[min(y, len(truth) - 1), min(x, truth.shape[1] - 1)])


def _surroundings(truth: Mask) -> tuple[Mask | None, tuple[int, int]]:
    """Return the square round an object, of an even side, and where it begins (even, too)."""
    tight = tight_box(truth)
    if tight is None:
        return None, (0, 0)
    x0, y0, x1, y1 = (int(v) for v in tight)
    side = 2 * math.ceil(0.8 * max(x1 - x0, y1 - y0) + 4)
    left, top = (2 * math.floor(((a + b) / 2 - side / 2) / 2) for a, b in ((x0, x1), (y0, y1)))
    out = np.zeros((side, side), np.bool_)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = truth[y0:y1, x0:x1]
    return out, (left, top)


def _paste(onto: NDArray, part: NDArray, left: int, top: int) -> None:
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + part.shape[0], onto.shape[0]), min(left + part.shape[1], onto.shape[1])
    if y1 > y0 and x1 > x0:
        onto[y0:y1, x0:x1] = part[y0 - top : y1 - top, x0 - left : x1 - left]


def _in_place(
    prompts: ObjectPrompts,
    earlier: NDArray[np.float32] | None,
    truth: Mask,
    place: Place,
    window: int,
    number: int,
    rng: np.random.Generator,
) -> Question | None:
    seen = place.cut(truth) > 0.5
    if not seen.any():
        return None
    asked = Asked(seen)
    if prompts.points is not None and prompts.labels is not None:
        asked.points = [(float(x), float(y)) for x, y in place.to_net(prompts.points)]
        asked.labels = [int(label) for label in prompts.labels]
    if prompts.box is not None:
        asked.box = place.to_net(prompts.box.reshape(2, 2)).ravel()
    if earlier is not None:
        asked.previous = place.cut(earlier, 0.5)
    area = max(float(truth.sum()) / place.factor**2, float(seen.sum()))
    return Question(window, number, place, asked, area, rng)
