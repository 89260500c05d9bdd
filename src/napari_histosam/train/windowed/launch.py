"""Runs a plan for a model that learns from whole windows, and makes a model of the result."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.train.finetune import launch
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.splits import divide

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.window_trainable import WindowTrainable
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division


def division_of(plan: Plan, card: ModelCard) -> Division:
    """Return the division of a plan's data, as the model on the card learns from it.

    Raises
    ------
    InputError
        As `napari_histosam.train.finetune.splits.divide`, or if the plan asks for several devices,
        or for boxes where areas are learned, or an image lists none.
    """
    from napari_histosam.train.windowed.subjects import AREAS, subject_of
    from napari_histosam.train.windowed.windows import without_boxes

    subject = subject_of(card)
    if subject is AREAS and plan.boxes_only:
        raise InputError(f"{plan.model} learns areas, from masks: leave --boxes-only away.")
    if plan.devices * plan.nodes > 1:
        raise InputError(
            f"{plan.model} is trained on one device: leave --devices and --nodes away."
        )
    division = divide(plan, **subject.asks)
    if plan.boxes_only:
        # Now, and not when the training is over and shall be judged.
        for entry in (*division.train, *division.val, *division.judged):
            if entry.boxes is None:
                raise without_boxes(entry)
    return division


def run(plan: Plan, division: Division, base_hash: str, notes: list[str]) -> dict[str, Any]:
    """Run or go on with a plan; see `napari_histosam.train.finetune.launch.run`."""
    return launch.run(plan, division, base_hash, notes, _work)


def taught_classes(plan: Plan, division: Division, card: ModelCard) -> tuple[str, ...]:
    """Return the classes that a model has after it was trained on a plan's division."""
    from napari_histosam.train.windowed.subjects import subject_of

    return subject_of(card).names((*division.train, *division.val, *division.test), card, plan)


def trainable(registry: ModelRegistry, plan: Plan, classes: tuple[str, ...]) -> WindowTrainable:
    """Return a plan's base as it is trained for classes, on the CPU."""
    from napari_histosam.models.families import family
    from napari_histosam.models.graphics import keep_compiler_out
    from napari_histosam.models.trained import check_trainable, weights_of

    keep_compiler_out()
    card = registry.get(plan.model)
    check_trainable(card, plan.method)
    made: Any = family(card.decoder)
    weights = weights_of(registry, card.name)
    found: WindowTrainable = made.trainable(replace(card, classes=classes), weights, plan.method)
    return found


def _work(fabric: Fabric, plan: Plan, division: Division, base_hash: str) -> None:
    import torch

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.windowed.kept import Kept
    from napari_histosam.train.windowed.loop import WindowLoop
    from napari_histosam.train.windowed.subjects import subject_of

    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    folder, registry = RunFolder(plan.out), ModelRegistry()
    classes = taught_classes(plan, division, registry.get(plan.model))
    torch.manual_seed(plan.seed)
    model = trainable(registry, plan, classes)
    model.module.to(fabric.device)
    subject = subject_of(model.card)
    source = subject.source(classes, plan)
    train = subject.cut(division.train, model.card, source, folder.note)
    val = subject.cut(division.val, model.card, source, folder.note)
    kept = Kept(model, source, folder.features, base_hash, fabric.device, fabric.autocast)
    both = [*train, *val]

    def report(done: int) -> None:
        folder.tell("running", f"Encoding windows: {done} of {len(both)}.")

    kept.prepare(both, report)
    about = {"base": model.card.name, "base_hash": base_hash, "method": plan.method}
    judge = partial(subject.judge, len(classes))
    loop = WindowLoop(plan, model, train, val, folder, kept, about, judge, fabric.autocast)
    end = loop.run()
    how = {"best_epoch": end.best_epoch, "early": end.early}
    folder.tell("paused" if end.state == "paused" else "done", end.message, **how)
    if end.state == "done":
        folder.finished()
