"""``histosam train --probe``: what a training would cost here, measured in a short trial."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.evaluate import measure
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models import ModelRegistry
    from napari_histosam.train.finetune.costs import Costs, Work
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.labelled import Entry

_COMPARED = 3
# Px between the objects of a painted window that is learned from as a whole.
_CROWDED = 64


def run(registry: ModelRegistry, plan: Plan, has_data: bool) -> tuple[dict[str, Any], str]:
    """Measure what a plan costs.

    Parameters
    ----------
    registry : ModelRegistry
    plan : Plan
    has_data : bool
        Whether there is data: then its windows are measured and the whole run is estimated, else
        painted windows are.
    """
    from napari_histosam.models.window_trainable import learns_windows
    from napari_histosam.train.finetune.probe import painted

    card = registry.get(plan.model)
    windowed = learns_windows(card)
    try:
        if has_data:
            return _of_windows(registry, plan) if windowed else _of_data(registry, plan)
        with tempfile.TemporaryDirectory() as folder:
            if windowed:
                from napari_histosam.train.windowed.probe import probe

                # What is painted lists no boxes; to learn from them takes as long.
                outlined = replace(plan, boxes_only=False)
                costs = probe(registry, outlined, painted(Path(folder), card, _CROWDED))
            else:
                costs = _measured(registry, plan, painted(Path(folder), card))
    except MemoryError as error:
        raise InputError(
            f"There is not enough memory to train {plan.model} by {plan.method}: choose the "
            "method decoder or a smaller model."
        ) from error
    return {"costs": costs.record()}, _said(costs)


def _of_data(registry: ModelRegistry, plan: Plan) -> tuple[dict[str, Any], str]:
    from napari_histosam.train.finetune.costs import Work
    from napari_histosam.train.finetune.splits import divide
    from napari_histosam.train.finetune.windows import cut

    division, card = divide(plan), registry.get(plan.model)
    train, val = (cut(part, card) for part in (division.train, division.val))
    numbers = [len(one.numbers) for one in (*train, *val)]
    judged = sum(len(one.numbers) for one in cut(division.judged, card))
    work = Work(len(train), len(val), sum(numbers) / len(numbers), judged, plan.epochs)
    costs = _measured(registry, plan, division.train)
    return _estimated(costs, work, plan)


def _of_windows(registry: ModelRegistry, plan: Plan) -> tuple[dict[str, Any], str]:
    from napari_histosam.train.finetune.costs import Work
    from napari_histosam.train.windowed.launch import division_of, taught_classes
    from napari_histosam.train.windowed.probe import probe
    from napari_histosam.train.windowed.subjects import subject_of

    card = registry.get(plan.model)
    division, subject = division_of(plan, card), subject_of(card)
    source = subject.source(taught_classes(plan, division, card), plan)
    train, val, judged = (
        subject.cut(part, card, source) for part in (division.train, division.val, division.judged)
    )
    costs = probe(registry, plan, division.train)
    # What is found is compared window by window.
    objects = sum(max(len(source.read(part).truth.boxes), 1) for part in judged)
    work = Work(len(train), len(val), objects / max(len(judged), 1), objects, plan.epochs)
    return _estimated(costs, work, plan)


def _estimated(costs: Costs, work: Work, plan: Plan) -> tuple[dict[str, Any], str]:
    seconds = costs.whole(work)
    estimate = {"seconds": seconds, "gigabytes": costs.gigabytes}
    windows = {"train": int(work.train), "val": int(work.val)}
    text = f"{_said(costs)}\nAll {plan.epochs} epochs: about {seconds:.0f} s."
    return {"costs": costs.record(), "windows": windows, "estimate": estimate}, text


def _measured(registry: ModelRegistry, plan: Plan, found: Sequence[Entry]) -> Costs:
    from napari_histosam.train.finetune.costs import Costs, peak_gigabytes
    from napari_histosam.train.finetune.probe import probe

    trial = probe(registry, plan, found)
    begun = time.perf_counter()
    model = registry.load(plan.model, device=plan.accelerator)
    loaded = time.perf_counter() - begun
    begun = time.perf_counter()
    outcomes = measure([trial.entry], model, 0, _COMPARED)
    compare = (time.perf_counter() - begun) / max(len(outcomes), 1)
    return Costs(
        device=trial.device,
        start=trial.start + 2 * loaded,
        encode=trial.encode,
        learn=trial.learn,
        ask=trial.ask,
        examine=trial.examine,
        validate=trial.validate,
        compare=compare,
        gigabytes=max(trial.gigabytes, peak_gigabytes(trial.device)),
        **trial.last._asdict(),
    )


def _said(costs: Costs) -> str:
    per = {
        "encode a window": costs.encode,
        "learn from a window": costs.learn,
        "and from an object in it": costs.ask,
        "validate a window": costs.examine,
        "and an object in it": costs.validate,
        "compare an object": costs.compare,
    }
    if costs.teach > 0:
        per["last part: look at a window"] = costs.look
        per["and ask for an object in it"] = costs.seek
        per["judge an object held out"] = costs.weigh
        per["learn to choose among masks"] = costs.teach
    rows = [f"{name}: {value:.3g} s" for name, value in per.items()]
    return "\n".join([*rows, f"memory: {costs.gigabytes:.2g} GB on {costs.device}"])
