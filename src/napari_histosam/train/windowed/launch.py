"""Runs a plan for a model that learns from whole windows, and makes a model of the result."""

from __future__ import annotations

from dataclasses import replace
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


def division_of(plan: Plan) -> Division:
    """Return the division of a plan's data, images that have boxes only among them.

    Raises
    ------
    InputError
        As `napari_histosam.train.finetune.splits.divide`, or if the plan asks for several devices.
    """
    if plan.devices * plan.nodes > 1:
        raise InputError(
            f"{plan.model} is trained on one device: leave --devices and --nodes away."
        )
    return divide(plan, boxes=True)


def run(plan: Plan, division: Division, base_hash: str, notes: list[str]) -> dict[str, Any]:
    """Run or go on with a plan; see `napari_histosam.train.finetune.launch.run`."""
    return launch.run(plan, division, base_hash, notes, _work)


def taught_classes(division: Division, card: ModelCard) -> tuple[str, ...]:
    """Return the classes that a model has after it was trained on a division."""
    from napari_histosam.train.windowed.windows import class_names

    return class_names((*division.train, *division.val, *division.test), card)


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
    from napari_histosam.train.windowed.windows import Source, cut

    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    folder, registry = RunFolder(plan.out), ModelRegistry()
    classes = taught_classes(division, registry.get(plan.model))
    torch.manual_seed(plan.seed)
    model = trainable(registry, plan, classes)
    model.module.to(fabric.device)
    source = Source(classes, boxes_only=plan.boxes_only)
    train = cut(division.train, model.card, source, folder.note)
    val = cut(division.val, model.card, source, folder.note)
    kept = Kept(model, source, folder.features, base_hash, fabric.device, fabric.autocast)
    both = [*train, *val]

    def report(done: int) -> None:
        folder.tell("running", f"Encoding windows: {done} of {len(both)}.")

    kept.prepare(both, report)
    about = {"base": model.card.name, "base_hash": base_hash, "method": plan.method}
    loop = WindowLoop(plan, model, train, val, folder, kept, about, fabric.autocast)
    end = loop.run()
    how = {"best_epoch": end.best_epoch, "early": end.early}
    folder.tell("paused" if end.state == "paused" else "done", end.message, **how)
    if end.state == "done":
        folder.finished()
