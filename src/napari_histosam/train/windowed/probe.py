"""Measures what learning from whole windows costs here: one is encoded, learned from, looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil
import torch

from napari_histosam.models.window_trainable import Look
from napari_histosam.train.finetune.costs import Costs, peak_gigabytes
from napari_histosam.train.finetune.launch import make_fabric
from napari_histosam.train.windowed.kept import Known
from napari_histosam.train.windowed.launch import trainable
from napari_histosam.train.windowed.subjects import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.labelled import Entry

# A first pass that takes longer than this, in s, is not done again to warm up.
_SLOW = 3.0


def probe(registry: ModelRegistry, plan: Plan, found: Sequence[Entry]) -> Costs:
    """Measure the parts of a training by the trainer's own code.

    Parameters
    ----------
    registry : ModelRegistry
    plan : Plan
        Base, method, device and threads are used.
    found : sequence of Entry
        Images; the window with most objects is the one that is measured.

    Raises
    ------
    InputError
        If there is not enough memory, or the model or an image cannot be read.
    """
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    fabric = make_fabric(plan)
    fabric.launch()
    torch.manual_seed(plan.seed)
    card = registry.get(plan.model)
    subject = subject_of(card)
    classes = subject.names(found, card, plan)
    model = trainable(registry, plan, classes)
    model.module.to(fabric.device)
    source = subject.source(classes, plan)
    read = [(part, source.read(part)) for part in subject.cut(found, model.card, source)]
    part, seen = max(read, key=lambda one: len(one[1].truth.boxes))
    prepared = model.prepare(*seen.images)
    inputs = {name: value.to(fabric.device) for name, value in prepared.items()}
    start = time.time() - psutil.Process().create_time()

    def encode() -> dict[str, torch.Tensor]:
        with torch.no_grad(), fabric.autocast():
            return model.encode(inputs, seen.truth)

    kept, encoding = _timed(encode, fabric.device)
    known = Known(part, seen, Look(inputs, kept, seen.truth))
    optimiser = model.optimiser(plan.rate or model.rate)

    def learn() -> None:
        model.teach(True)
        optimiser.zero_grad()
        losses = model.losses([known.look])
        while True:
            with fabric.autocast():
                some = next(losses, None)
            if some is None:
                break
            torch.stack([value.float() for value in some.values()]).sum().backward()
        optimiser.step()
        model.teach(False)

    _, learning = _timed(learn, fabric.device)

    def look() -> None:
        with fabric.autocast():
            subject.judge(len(classes)).add(model, known)

    _, looking = _timed(look, fabric.device)
    kind = fabric.device.type
    # Whoever compares looks at each window twice and encodes it once.
    each = max(len(seen.truth.boxes), 1)
    return Costs(
        device=kind,
        start=start,
        encode=encoding,
        learn=learning,
        ask=0.0,
        examine=looking,
        validate=0.0,
        compare=(looking + encoding / 2) / each,
        gigabytes=peak_gigabytes(kind),
    )


def _timed(do: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Return what comes of some work, and its seconds without what only the first time takes."""
    for again in (True, False):
        begun = time.perf_counter()
        found = do()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - begun
        if spent > _SLOW or not again:
            break
    return found, spent
