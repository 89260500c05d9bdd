"""The job that sorts a store's objects for review: columns, outlines, looks, perhaps the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.jobs import Progress
from napari_histosam.session.review.again import ask_again, disagreement
from napari_histosam.session.review.candidates import read_candidates
from napari_histosam.session.review.doubts import (
    first_mask,
    low_score,
    measure,
    odd_shape,
    odd_size,
)
from napari_histosam.session.review.looks import look, odd_look
from napari_histosam.session.review.queue import ReviewQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_histosam.jobs import CancelToken
    from napari_histosam.session.review.candidates import Candidates
    from napari_histosam.session.review.queue import Doubt
    from napari_histosam.session.session import Session

# What is read at the objects takes milliseconds each, what asks the model tenths of a second.
LOOKED_AT = 2000
ASKED = 100
_PER_CLASS = 200


@dataclass(frozen=True)
class Plan:
    """How to sort.

    Parameters
    ----------
    ask_model : bool
        Ask the model again for the objects that are most doubtful otherwise, up to 100.
    looked_at : int
        How many objects are read on the slide at most.
    asked : int
        How many the model is asked for at most.
    left_out : callable of (str or None)
        Says of a class whether its outlines are no objects (regions, for example).
    """

    ask_model: bool = False
    looked_at: int = LOOKED_AT
    asked: int = ASKED
    left_out: Callable[[str | None], bool] = lambda name: False


def sort_objects(
    session: Session, plan: Plan, report: Callable[[Progress], None], cancel: CancelToken
) -> ReviewQueue:
    """Sort a session's objects, least certain first; a job, for a thread of its own.

    Notes
    -----
    Every chunk of reading ends with a report and a look whether to stop. The lists are: predicted
    IoU; size and shape against the class; the model's first mask against the outline; colour and
    texture against the objects of the class that a person stands for; and, if asked for, the
    model's answer to a click now. See `queue.in_turn` for how they are put together.

    Raises
    ------
    Cancelled
        If it was stopped.
    InputError
        If the model shall be asked and is still loading.
    """
    total = 0

    def told(text: str) -> Callable[[int], None]:
        def step(done: int) -> None:
            cancel.check()
            report(Progress(done, total, text))

        return step

    store, slide = session.store, session.slide
    total = len(store)
    of = read_candidates(store, told("Reading objects"), plan.left_out)
    total = len(of)
    if not total:
        return ReviewQueue(of, [])
    ruggedness, agreement = measure(store, of, told("Comparing outlines"))
    doubts = [
        low_score(of),
        odd_size(of),
        odd_shape(of, ruggedness),
        first_mask(agreement),
    ]
    chosen = _most_doubtful(of, doubts, plan.looked_at, references=True)
    total = len(chosen)
    doubts.append(odd_look(of, look(slide, store, of, chosen, told("Looking at objects"))))
    if plan.ask_model:
        chosen = _most_doubtful(of, doubts, plan.asked)
        total = len(chosen)
        step = told("Asking the model")
        doubts.append(disagreement(*ask_again(slide, store, of, chosen, session.aside, step)))
    return ReviewQueue(of, doubts)


def _most_doubtful(
    of: Candidates, doubts: list[Doubt], most: int, *, references: bool = False
) -> NDArray[np.int64]:
    """Return the indices of the unreviewed objects that come first, and of each class's measure.

    ``references`` adds, for every class, up to 200 objects spread evenly over those that a person
    stands for (or over all, where there are few of these), so that there is something to compare
    with.
    """
    order = ReviewQueue(of, doubts).order
    if len(of) <= most:
        return order
    open_ = np.array([review is None for review in of.reviews], bool)
    first = order[open_[order]]
    if not references:
        return first[:most]
    kept: list[NDArray[np.int64]] = []
    groups, vouched = of.groups, of.vouched
    for group in np.unique(groups):
        rows = np.flatnonzero((groups == group) & vouched)
        if len(rows) < _PER_CLASS // 4:
            rows = np.flatnonzero(groups == group)
        kept.append(rows[np.unique(np.linspace(0, len(rows) - 1, _PER_CLASS).astype(int))])
    base = np.concatenate(kept)[: most // 2]
    rest = first[~np.isin(first, base)]
    return np.concatenate([base, rest[: most - len(base)]])
