"""Orders objects by several lists of doubts, the first of every list in turn, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from napari_histosam.session.review.candidates import Candidates

# A row that names more reasons is not read.
_TOLD = 3


@dataclass(frozen=True, eq=False)
class Doubt:
    """One list of doubts.

    Parameters
    ----------
    name : str
    values : (n,) float array
        Larger is more doubtful; NaN keeps an object out of this list.
    words : callable of int
        Says why in a few words, by the object's index; empty where the value is no reason.
    """

    name: str
    values: NDArray[np.float64]
    words: Callable[[int], str]


@dataclass(frozen=True)
class Entry:
    """One object of the queue.

    Parameters
    ----------
    id : str
    class_name : str, optional
    source : str
    score : float, optional
    area : float
        Level-0 px².
    bounds : tuple of float
        x0, y0, x1, y1, level-0 px.
    review : str, optional
        As it was when the queue was made.
    reason : str
        Why it stands where it stands; empty if nothing speaks against it.
    """

    id: str
    class_name: str | None
    source: str
    score: float | None
    area: float
    bounds: tuple[float, float, float, float]
    review: str | None
    reason: str


def places(doubts: list[Doubt], size: int) -> NDArray[np.float64]:
    """Return each object's place in each list, (n, number of lists), from 0; inf where it is not.

    Equal values share a place.
    """
    found = np.full((size, len(doubts)), np.inf)
    for column, doubt in enumerate(doubts):
        listed = np.flatnonzero(np.isfinite(doubt.values))
        if len(listed):
            found[listed, column] = rankdata(-doubt.values[listed], "min") - 1
    return found


def in_turn(where: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of objects: by their best place in any list.

    Of those with the same best place, one that more lists name comes first (by the sum of
    1 / (1 + place)), then the older one; what no list names comes last.

    Parameters
    ----------
    where : (n, number of lists) float array
        What `places` gave.
    numbers : (n,) int array
        Running numbers, all different.
    """
    if not where.shape[1]:
        return np.argsort(numbers, kind="stable")
    best = where.min(axis=1)
    # Rounded, so that the order of the sum's terms does not matter.
    weight = np.round((1 / (1 + where)).sum(axis=1), 12)
    return np.lexsort((numbers, -weight, best))


class ReviewQueue:
    """Objects in the order of review.

    Parameters
    ----------
    candidates : Candidates
    doubts : list of Doubt
    """

    def __init__(self, candidates: Candidates, doubts: list[Doubt]) -> None:
        self.candidates = candidates
        self._doubts = doubts
        self._places = places(doubts, len(candidates))
        self._order = in_turn(self._places, candidates.numbers)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def order(self) -> NDArray[np.int64]:
        """Indices into the candidates, (n,), most doubtful first."""
        return self._order

    @property
    def ids(self) -> list[str]:
        """The objects' ids, most doubtful first."""
        return [self.candidates.ids[i] for i in self._order]

    def keep(
        self,
        wanted: Callable[[str | None, str, str | None], bool],
        ids: Collection[str] | None = None,
    ) -> NDArray[np.int64]:
        """Return the part of `order` for which ``wanted(class name, source, review)`` is true.

        With ``ids``, only of these objects.
        """
        of = self.candidates
        mask = [wanted(*one) for one in zip(of.classes, of.sources, of.reviews, strict=True)]
        if ids is not None:
            mask = [one and key in ids for one, key in zip(mask, of.ids, strict=True)]
        return self._order[np.array(mask, bool)[self._order]]

    def entry(self, index: int) -> Entry:
        """Return the object at an index into the candidates."""
        of = self.candidates
        score = float(of.scores[index])
        x0, y0, x1, y1 = of.bounds[index].tolist()
        return Entry(
            id=of.ids[index],
            class_name=of.classes[index],
            source=of.sources[index],
            score=None if np.isnan(score) else score,
            area=float(of.areas[index]),
            bounds=(x0, y0, x1, y1),
            review=of.reviews[index],
            reason=self.reason(index),
        )

    def reason(self, index: int) -> str:
        """Return why an object stands where it stands, the strongest reason first."""
        where = self._places[index]
        listed = [i for i in np.argsort(where, kind="stable") if np.isfinite(where[i])]
        words = [self._doubts[i].words(index) for i in listed]
        return " · ".join([text for text in words if text][:_TOLD])
