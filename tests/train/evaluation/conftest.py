"""Subjects that answer from the truth, and outcomes made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_histosam.train.evaluation.protocol import Outcome, iou
from napari_histosam.train.labelled import Entry
from napari_histosam.train.simulate import tight_box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.train.simulate import Click


@dataclass
class Reply:
    """What a fake subject answers."""

    masks: Sequence[NDArray[np.bool_]]
    scores: Sequence[float]
    encode_ms: float
    decode_ms: float


class Fake:
    """A subject that knows the truth and answers what ``see`` makes of it.

    ``see`` gets the asked-for object's mask and the clicks so far, and returns masks and scores.
    """

    def __init__(self, labels: NDArray[Any], see: Callable) -> None:
        self.labels, self.see = labels, see
        self.heard: list[tuple[str, object]] = []
        self._waiting = [7.0]  # only the first call encodes

    def ask(self, clicks: Sequence[Click], box: NDArray[np.float64] | None) -> Reply:
        if box is None:
            self.heard.append(("clicks", tuple(clicks)))
        else:
            self.heard.append(("box", tuple(box.tolist())))
        masks, scores = self.see(self._meant(clicks, box), clicks)
        encode = self._waiting.pop() if self._waiting else 0.0
        return Reply(masks, scores, encode, 2.0)

    def forget(self) -> None:
        self.heard.append(("forget", None))

    def _meant(self, clicks: Sequence[Click], box: NDArray[np.float64] | None) -> NDArray[np.bool_]:
        if box is None:
            return self.labels == self.labels[int(clicks[0].y), int(clicks[0].x)]
        found = [self.labels == number for number in np.unique(self.labels[self.labels > 0])]
        return min(found, key=lambda mask: float(np.abs(tight_box(mask) - box).sum()))


def an_entry(name: str = "dsb_1", set_name: str = "nuclei") -> Entry:
    return Entry(name, set_name, name.split("_")[0], Path("image.png"), Path("mask.png"), None)


def an_outcome(**members: Any) -> Outcome:
    """Return an outcome whose members are at rest, but for those given."""
    plain = {
        "entry": an_entry(members.pop("name", "dsb_1")),
        "number": 1,
        "area": 200,
        "cut": False,
        "prompted_box": (0.0, 0.0, 10.0, 10.0),
        "clicks": (0.5, 0.6, 0.7),
        "random": 0.4,
        "box": 0.8,
        "ellipse": 0.75,
        "click_score": 0.5,
        "box_score": 0.8,
        "offered": (0.5,),
        "followed": (),
        "encode_ms": (),
        "decode_ms": (3.0,),
    }
    return Outcome(**{**plain, **members})


class Helpers:
    fake = Fake
    entry = staticmethod(an_entry)
    outcome = staticmethod(an_outcome)
    iou = staticmethod(iou)


@pytest.fixture(scope="session")
def helpers() -> type[Helpers]:
    return Helpers
