"""Adds the clicks of a user who corrects what the model being trained shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from napari_histosam.train.small.prompting import CORRECTIONS, correct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.asking import Question


class Seen(NamedTuple):
    """What a user sees of an answer.

    ``mask`` (height, width) bool in net px, ``probable`` (height / 2, width / 2) float32, and
    ``score``, the predicted IoU.
    """

    mask: NDArray[np.bool_]
    probable: NDArray[np.float32]
    score: float


@torch.no_grad()
def seen(
    model: Trainable, features: Mapping[str, Tensor], questions: Sequence[Question]
) -> list[Seen]:
    """Return what is shown first for each question."""
    out: dict[int, Seen] = {}
    found = model.decode(
        features,
        [one.window for one in questions],
        [one.place for one in questions],
        [one.asked for one in questions],
    )
    for answers in found:
        ambiguous = torch.tensor([questions[row].asked.ambiguous for row in answers.rows])
        which = model.shown(answers, ambiguous.to(answers.logits.device))
        at = torch.arange(len(which), device=which.device)
        chosen = answers.logits[at, which].float()
        full = functional.interpolate(chosen[:, None], scale_factor=2.0, mode="bilinear")[:, 0] > 0
        masks, probable = full.cpu().numpy(), chosen.sigmoid().cpu().numpy()
        scores = model.estimates(answers)[at, which].cpu().numpy()
        for row, mask, soft, score in zip(answers.rows, masks, probable, scores, strict=True):
            out[row] = Seen(mask, soft, float(score))
    return [out[row] for row in range(len(questions))]


def follow_up(question: Question, shown: Seen, rng: np.random.Generator | None) -> bool:
    """Add a click where a shown mask is wrong, and the mask itself; return whether there was one.

    With ``rng`` the click lies somewhere in the largest error, else at its deepest point.
    """
    asked = question.asked
    if not correct(asked, shown.mask, rng):
        return False
    asked.previous = shown.probable
    return True


def add_corrections(
    model: Trainable,
    features: Mapping[str, Tensor],
    questions: Sequence[Question],
    at_once: int,
) -> None:
    """Give each question as many correcting clicks as it is to have.

    Parameters
    ----------
    model : Trainable
    features : mapping of str to tensor
        Of the questions' windows.
    questions : sequence of Question
        Changed in place.
    at_once : int
        Objects to decode at once.
    """
    for turn in range(CORRECTIONS):
        rest = [one for one in questions if one.asked.corrections > turn]
        for start in range(0, len(rest), at_once):
            part = rest[start : start + at_once]
            for one, shown in zip(part, seen(model, features, part), strict=True):
                if not follow_up(one, shown, one.rng):
                    one.asked.corrections = turn
