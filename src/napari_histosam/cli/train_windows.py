"""``histosam train`` for models that find things by themselves and learn from whole windows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_histosam.cli import probe

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from napari_histosam.models import ModelRegistry
    from napari_histosam.train.finetune.plan import Plan


def run(
    registry: ModelRegistry,
    plan: Plan,
    args: Namespace,
    ask_to_finish: Callable[[Plan], tuple[dict[str, Any], str] | None],
) -> tuple[dict[str, Any], str]:
    """Train, keep the model, compare it with its base.

    Parameters
    ----------
    registry : ModelRegistry
    plan : Plan
        Checked.
    args : Namespace
    ask_to_finish : callable
        Has a run end; returns what to say where another process does the rest.
    """
    from napari_histosam.models.files import write_bytes_atomic
    from napari_histosam.models.trained import base_hash
    from napari_histosam.train.finetune.result import judge, keep, name_for
    from napari_histosam.train.windowed.launch import division_of, taught_classes
    from napari_histosam.train.windowed.launch import run as train
    from napari_histosam.train.windowed.verdict import compare

    if args.probe:
        return probe.run(registry, plan, args.data is not None)
    card = registry.get(plan.model)
    division = division_of(plan, card)
    name = name_for(registry, plan, args.name)
    if args.finish:
        told = ask_to_finish(plan)
        if told is not None:
            return told
    known = base_hash(registry, plan.model)
    status = train(plan, division, known, list(division.notes))
    if status["state"] != "done":
        return status, f"{status['message']} Run the same command to go on."
    if status.get("early") and not status.get("best_epoch"):
        return status, "\n".join([*status.get("notes", ()), status["message"]])
    found, said = compare(registry, plan, division, known)
    classes = taught_classes(plan, division, card)
    made = keep(registry, plan, division, name, classes)
    made = judge(registry, made, found, said)
    write_bytes_atomic(plan.out / "report.json", json.dumps(found, indent=1).encode())
    result = {
        **status,
        "name": made.name,
        "base": plan.model,
        "method": plan.method,
        "bytes": sum(entry.bytes or 0 for entry in made.files),
        "out": str(plan.out),
        "verdict": found["verdict"],
        "comparison": found,
    }
    lines = [*status.get("notes", ()), status["message"], said]
    lines.append(f"The model is called {made.name}; the default model stays as it is.")
    if args.export is not None:
        registry.export(made.name, args.export)
        result["export"] = str(args.export)
        lines.append(f"It was written to {args.export} as one plain file.")
    return result, "\n".join(lines)
