"""Quick figures during a run: IoU at 1 click, 3 clicks and by box on the held-out windows.

The prompts follow the protocol of `histosam evaluate`, but masks are judged where the decoder looks
and not through the session's windows, which is why the verdict at the end comes from there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import once_more
from napari_histosam.models.trainable import boxes_only
from napari_histosam.train.finetune.asking import plain_questions
from napari_histosam.train.finetune.correcting import follow_up, seen
from napari_histosam.train.finetune.features import fresh
from napari_histosam.train.finetune.step import sample_seed
from napari_histosam.train.finetune.windows import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.asking import Question
    from napari_histosam.train.finetune.correcting import Seen
    from napari_histosam.train.finetune.features import Encoded
    from napari_histosam.train.finetune.windows import Sample, View

CLICKS = 3
# Objects of a window at most, drawn by the seed.
_OBJECTS = 12
_SEED = 7
COLUMNS = ("click1", "click3", "box", "dice", "score_error")


@dataclass(frozen=True)
class Examined:
    """An object of the held-out images.

    Parameters
    ----------
    sample : Sample
    number : int
    class_name : str or None
    """

    sample: Sample
    number: int
    class_name: str | None


def examined(samples: Sequence[Sample]) -> list[Examined]:
    """Return the objects that are asked for, always the same ones."""
    out = []
    for sample in samples:
        rng = np.random.default_rng([_SEED, *sample_seed(sample)])
        order = np.sort(rng.permutation(len(sample.numbers))[:_OBJECTS])
        for number in (sample.numbers[i] for i in order):
            out.append(Examined(sample, number, sample.entry.class_of(number)))
    return out


@torch.no_grad()
def judge(
    model: Trainable,
    objects: Sequence[Examined],
    encoded: Encoded | None,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> np.ndarray:
    """Ask for objects and return their figures.

    Returns
    -------
    (n, len(COLUMNS)) float64 array
        NaN where an object is not shown. ``dice`` is that of the first click's mask;
        ``score_error`` is the error of its predicted IoU. A model that takes boxes only has no
        figures for clicks, and both are its box's.
    """
    model.teach(False)
    reader, out = Reader(), np.full((len(objects), len(COLUMNS)), np.nan)

    def figures(rows: Sequence[int]) -> list[list[float]]:
        sample = objects[rows[0]].sample
        view = reader.read(sample)
        asked = [_questions(model, view, objects[row]) for row in rows]
        places = {q.place for pair in asked for part in pair for q in part}
        missing = [np.nan] * len(COLUMNS)
        if not places:
            return [missing] * len(rows)
        with autocast():
            if encoded is not None:
                features = encoded.of([sample], [view])
            else:
                features = fresh(model, [view], places, device)
            return [
                _one(model, clicked, boxed, features)
                if boxed and (clicked or boxes_only(model))
                else missing
                for clicked, boxed in asked
            ]

    by_window: dict[tuple, list[int]] = {}
    for row, one in enumerate(objects):
        by_window.setdefault(tuple(sample_seed(one.sample)), []).append(row)
    for rows in by_window.values():
        # A step leaves little free; objects are decoded one by one here, so there is no less.
        out[rows] = once_more(functools.partial(figures, rows), device.type)
    return out


def means(figures: np.ndarray, objects: Sequence[Examined]) -> dict[str, object]:
    """Return mean figures over objects, and Dice per class; None where nothing was shown."""
    found: dict[str, object] = {
        f"val_{name}": _mean(figures[:, column]) for column, name in enumerate(COLUMNS)
    }
    main = [found[f"val_{name}"] for name in ("click1", "click3", "box")]
    whole = [float(v) for v in main if isinstance(v, float)]
    found["val_iou"] = float(np.mean(whole)) if whole else None
    names = sorted({one.class_name for one in objects if one.class_name is not None})
    of = np.array([one.class_name or "" for one in objects])
    dice = figures[:, COLUMNS.index("dice")]
    found["dice"] = {name: _mean(dice[of == name]) for name in names}
    return found


def _questions(
    model: Trainable, view: View, one: Examined
) -> tuple[list[Question], list[Question]]:
    rng = np.random.default_rng([_SEED, one.number, *sample_seed(one.sample)])
    clicked = plain_questions(model, view, one.number, 0, rng, "click")
    return clicked, plain_questions(model, view, one.number, 0, rng, "box")


def _one(
    model: Trainable,
    clicked: Sequence[Question],
    boxed: Sequence[Question],
    features: Mapping[str, Tensor],
) -> list[float]:
    by_box = max(
        zip(boxed, seen(model, features, boxed), strict=True), key=lambda pair: pair[1].score
    )
    box = _iou(*by_box)
    if not clicked:
        return [np.nan, np.nan, box, 2 * box / (1 + box), abs(box - by_box[1].score)]
    # As in use: the places answer all, and the highest score is shown.
    found = list(zip(clicked, seen(model, features, clicked), strict=True))
    asked, shown = max(found, key=lambda pair: pair[1].score)
    first = _iou(asked, shown)
    error, last = abs(first - shown.score), first
    for _ in range(CLICKS - 1):
        if not follow_up(asked, shown, None):
            break
        (shown,) = seen(model, features, [asked])
        last = _iou(asked, shown)
    return [first, last, box, 2 * first / (1 + first), error]


def _iou(asked: Question, shown: Seen) -> float:
    common = float((shown.mask & asked.asked.truth).sum())
    return common / max(asked.area + float(shown.mask.sum()) - common, 1.0)


def _mean(values: np.ndarray) -> float | None:
    kept = values[~np.isnan(values)]
    return round(float(kept.mean()), 5) if len(kept) else None
