"""Base and trained model on the windows held out: what they find, and whether it got better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.devices import choose_device
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.windowed.kept import Kept
from napari_histosam.train.windowed.launch import taught_classes, trainable
from napari_histosam.train.windowed.validation import Tally
from napari_histosam.train.windowed.windows import Source, cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division

FIGURES = ("ap50", "iou")
"""What is compared; the first one decides."""

_DRAWS = 500
_LEAST = 0.002


def compare(
    registry: ModelRegistry, plan: Plan, division: Division, base_hash: str
) -> tuple[dict[str, Any], str]:
    """Measure a finished run's base and best epoch on the images held out.

    Returns
    -------
    found : dict
        Ready for JSON: ``figures`` holds for AP50 and for the mean IoU of true objects ``before``,
        ``after``, ``gain``, ``low`` and ``high``, a 95 % bootstrap interval over groups;
        ``decided_by`` names the one of them that the verdict is about;
        ``verdict`` is ``"better"`` or ``"worse"`` where that of AP50 keeps off 0, else ``"same"``.
    said : str
        The same in a sentence.
    """
    import torch

    classes = taught_classes(division, registry.get(plan.model))
    model = trainable(registry, plan, classes)
    device = torch.device(choose_device(plan.accelerator).name)
    model.module.to(device)
    source, folder = Source(classes, boxes_only=plan.boxes_only), RunFolder(plan.out)
    parts = cut(division.judged, model.card, source)
    kept = Kept(model, source, folder.features, base_hash, device)
    runs: list[dict[str, Tally]] = []
    for state in (None, read_checkpoint(folder.best, strip=False)):
        if state is not None:
            model.restore(state)
        model.teach(False)
        tallies: dict[str, Tally] = {}
        for part in parts:
            seen, _, known = kept.of(part)
            height, width = seen.images[0].shape[:2]
            group = part.entry.group or part.entry.name
            tallies.setdefault(group, Tally()).add(model.found(known, (width, height)), seen.truth)
        runs.append(tallies)
    found = judged(runs[0], runs[1])
    by = "boxes" if plan.boxes_only else "outlines"
    one = found["figures"]["ap50"]
    said = (
        f"On {found['n_objects']} objects held out, AP50 by {by} went from {one['before']:.3f} to "
        f"{one['after']:.3f} (95 % interval of the gain {one['low']:+.3f} to {one['high']:+.3f}): "
        f"{found['verdict']}."
    )
    return found, said


def judged(before: Mapping[str, Tally], after: Mapping[str, Tally]) -> dict[str, Any]:
    """Compare two models by what they found in each group of images."""
    groups = sorted(before)
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(groups), size=len(groups)) for _ in range(_DRAWS)]
    figures = {}
    for name in FIGURES:

        def of(tallies: Mapping[str, Tally], chosen: Any, name: str = name) -> float:
            return float(getattr(Tally.of([tallies[groups[i]] for i in chosen]), name)())

        whole = range(len(groups))
        gains = [of(after, draw) - of(before, draw) for draw in draws]
        first, last = of(before, whole), of(after, whole)
        low, high = (float(v) for v in np.percentile(gains, (2.5, 97.5)))
        figures[name] = {
            "before": round(first, 4),
            "after": round(last, 4),
            "gain": round(last - first, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    one, verdict = figures["ap50"], "same"
    if abs(one["gain"]) >= _LEAST and one["low"] * one["high"] > 0:
        verdict = "better" if one["gain"] > 0 else "worse"
    return {
        "verdict": verdict,
        "decided_by": FIGURES[0],
        "n_objects": sum(tally.objects for tally in before.values()),
        "n_groups": len(groups),
        "figures": figures,
    }
