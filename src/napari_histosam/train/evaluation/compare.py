"""Whether one model is better than another on the same objects: paired differences, a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.train.evaluation.protocol import Outcome

FIGURES: dict[str, Callable[[Outcome], float]] = {
    "iou_click1": lambda o: o.clicks[0],
    "iou_click3": lambda o: o.clicks[-1],
    "iou_box": lambda o: o.box,
}
_DRAWS = 4000
# A difference of less is none, however many objects say so.
_LEAST = 0.002
# Objects whose IoU changed by more count as changed.
_CHANGED = 0.02
_GALLERY = 8


def compare(before: Sequence[Outcome], after: Sequence[Outcome]) -> dict[str, Any]:
    """Return how much better the second model is, object by object.

    The interval is a 95 % percentile bootstrap over groups (patients, slides, source images), for
    objects of one slide are alike (Efron and Tibshirani 1993, chapter 13); over objects where there
    is but one group.

    Parameters
    ----------
    before, after : sequence of Outcome
        Of the same objects with the same prompts, in any order.

    Returns
    -------
    dict
        Ready for JSON. ``figures`` holds for each of `FIGURES`, and for their mean ``iou``,
        ``before``, ``after``, ``gain``, ``low``, ``high``, ``improved`` and ``worsened`` (shares of
        objects); ``verdict`` is ``"better"`` or ``"worse"`` where the interval of the mean's gain
        keeps off 0, else ``"same"``; ``best`` and ``worst`` name the objects that changed most.

    Raises
    ------
    InputError
        If no object was asked of both.
    """
    first = {_key(o): o for o in before}
    pairs = [(first[_key(o)], o) for o in after if _key(o) in first]
    if not pairs:
        raise InputError("No object was asked of both models: evaluate them on the same images.")
    groups = [o.entry.group or o.entry.name for _, o in pairs]
    names = sorted(set(groups))
    of = np.array([names.index(g) for g in groups]) if len(names) > 1 else np.arange(len(pairs))
    figures: dict[str, dict[str, float]] = {}
    gains = []
    for name, value in FIGURES.items():
        old = np.array([value(a) for a, _ in pairs])
        new = np.array([value(b) for _, b in pairs])
        figures[name] = _figure(old, new, of)
        gains.append(new - old)
    old = np.mean([[v(a) for a, _ in pairs] for v in FIGURES.values()], 0)
    mean_gain = np.mean(gains, 0)
    figures["iou"] = _figure(old, old + mean_gain, of)
    whole = figures["iou"]
    verdict = "same"
    if abs(whole["gain"]) >= _LEAST and whole["low"] > 0:
        verdict = "better"
    elif abs(whole["gain"]) >= _LEAST and whole["high"] < 0:
        verdict = "worse"
    order = np.argsort(mean_gain, kind="stable")
    shown = [_named(pairs[i][1], float(mean_gain[i])) for i in order]
    return {
        "verdict": verdict,
        "n_objects": len(pairs),
        "n_groups": len(names),
        "figures": figures,
        "best": shown[::-1][:_GALLERY],
        "worst": shown[:_GALLERY],
    }


def sentence(found: dict[str, Any]) -> str:
    """Return a comparison in one sentence."""
    whole = found["figures"]["iou"]
    click, box = found["figures"]["iou_click1"], found["figures"]["iou_box"]
    word = {"better": "Better than", "worse": "Worse than", "same": "No clear difference to"}
    return (
        f"{word[found['verdict']]} its base: mean IoU {whole['before']:.3f} -> "
        f"{whole['after']:.3f} (gain {whole['gain']:+.3f}, 95 % {whole['low']:+.3f} to "
        f"{whole['high']:+.3f}; 1 click {click['before']:.3f} -> {click['after']:.3f}, box "
        f"{box['before']:.3f} -> {box['after']:.3f}) on {found['n_objects']} objects of "
        f"{found['n_groups']} groups held out."
    )


def _figure(old: np.ndarray, new: np.ndarray, of: np.ndarray) -> dict[str, float]:
    gain = new - old
    low, high = _interval(gain, of)
    values = {
        "before": old.mean(),
        "after": new.mean(),
        "gain": gain.mean(),
        "low": low,
        "high": high,
        "improved": (gain > _CHANGED).mean(),
        "worsened": (gain < -_CHANGED).mean(),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def _interval(gain: np.ndarray, of: np.ndarray) -> tuple[float, float]:
    count = int(of.max()) + 1
    sums, sizes = np.bincount(of, gain, count), np.bincount(of, minlength=count)
    drawn = np.random.default_rng(0).integers(0, count, (_DRAWS, count))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _key(outcome: Outcome) -> tuple[str, str, int]:
    return outcome.entry.set_name, outcome.entry.name, outcome.number


def _named(outcome: Outcome, gain: float) -> dict[str, Any]:
    entry = outcome.entry
    return {
        "set": entry.set_name,
        "image": entry.name,
        "label": outcome.number,
        "gain": round(gain, 4),
    }
