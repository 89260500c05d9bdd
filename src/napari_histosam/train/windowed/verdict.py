"""Base and trained model on the windows held out: what they find, and whether it got better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.devices import choose_device
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.windowed.kept import Kept
from napari_histosam.train.windowed.launch import taught_classes, trainable
from napari_histosam.train.windowed.subjects import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division
    from napari_histosam.train.windowed.judge import Judge

_DRAWS = 500
_LEAST = 0.002


def compare(
    registry: ModelRegistry, plan: Plan, division: Division, base_hash: str
) -> tuple[dict[str, Any], str]:
    """Measure a finished run's base and best epoch on the images held out.

    Returns
    -------
    found : dict
        Ready for JSON: ``figures`` holds for each of the judge's ``before``, ``after``, ``gain``,
        ``low`` and ``high``, a 95 % bootstrap interval over groups; ``decided_by`` names the first
        one, and ``verdict`` is ``"better"`` or ``"worse"`` where its interval keeps off 0, else
        ``"same"``.
    said : str
        The same in a sentence.
    """
    import torch

    classes = taught_classes(plan, division, registry.get(plan.model))
    model = trainable(registry, plan, classes)
    device = torch.device(choose_device(plan.accelerator).name)
    model.module.to(device)
    subject, folder = subject_of(model.card), RunFolder(plan.out)
    source = subject.source(classes, plan)
    parts = subject.cut(division.judged, model.card, source)
    kept = Kept(model, source, folder.features, base_hash, device)
    runs: list[dict[str, Judge]] = []
    for state in (None, read_checkpoint(folder.best, strip=False)):
        if state is not None:
            model.restore(state)
        model.teach(False)
        judges: dict[str, Judge] = {}
        for part in parts:
            group = part.entry.group or part.entry.name
            judge = judges.setdefault(group, subject.judge(len(classes)))
            judge.add(model, kept.of(part))
        runs.append(judges)
    found = judged(runs[0], runs[1], subject.counted)
    return found, subject.said(found, plan)


def judged(
    before: Mapping[str, Judge], after: Mapping[str, Judge], counted: str = "objects"
) -> dict[str, Any]:
    """Compare two models by what they found in each group of images."""
    groups = sorted(before)
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(groups), size=len(groups)) for _ in range(_DRAWS)]

    def scores(judges: Mapping[str, Judge], chosen: Iterable[int]) -> dict[str, float]:
        several = [judges[groups[i]] for i in chosen]
        whole: Judge = type(several[0]).of(several)
        return whole.score()

    one, other = (scores(judges, range(len(groups))) for judges in (before, after))
    drawn = [(scores(before, draw), scores(after, draw)) for draw in draws]
    figures = {}
    for name in one:
        first, last = one[name], other[name]
        gains = [those[name] - these[name] for these, those in drawn]
        low, high = (float(v) for v in np.percentile(gains, (2.5, 97.5)))
        figures[name] = {
            "before": round(first, 4),
            "after": round(last, 4),
            "gain": round(last - first, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    deciding, verdict = next(iter(figures.values())), "same"
    if abs(deciding["gain"]) >= _LEAST and deciding["low"] * deciding["high"] > 0:
        verdict = "better" if deciding["gain"] > 0 else "worse"
    return {
        "verdict": verdict,
        "decided_by": next(iter(figures)),
        f"n_{counted}": sum(judge.count for judge in before.values()),
        "n_groups": len(groups),
        "figures": figures,
    }
