"""Measures what a training costs here: a few windows are encoded, learned from and validated with.

It is the trainer's own code at work, in a process like the trainer's, on the data's own windows or
on windows that are painted for it.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import psutil
import torch

from napari_histosam.models.trainable import Judged
from napari_histosam.train.finetune.costs import peak_gigabytes
from napari_histosam.train.finetune.features import Encoded
from napari_histosam.train.finetune.launch import make_fabric
from napari_histosam.train.finetune.step import Memory, Teacher
from napari_histosam.train.finetune.validation import Examined, judge
from napari_histosam.train.finetune.windows import Reader, cut
from napari_histosam.train.labelled import Entry
from napari_histosam.train.small.rejudging import Shown, Spent, trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric

    from napari_histosam.models import ModelCard, ModelRegistry
    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.windows import Sample

# A first pass that takes longer than this, in s, is not done again to warm up.
_SLOW = 3.0
_SIDE, _PITCH, _RADIUS = 512, 32, 11


@dataclass(frozen=True)
class Trial:
    """What was measured of the trainer, see `napari_histosam.train.finetune.costs.Costs`.

    Parameters
    ----------
    device : str
    start, encode, learn, ask, examine, validate, gigabytes : float
    last : Spent
        Of teaching a judge, after the last epoch; nothing where the model has none.
    entry : Entry
        An image that was used; to measure the comparison with.
    """

    device: str
    start: float
    encode: float
    learn: float
    ask: float
    examine: float
    validate: float
    gigabytes: float
    last: Spent
    entry: Entry


def probe(registry: ModelRegistry, plan: Plan, found: Sequence[Entry]) -> Trial:
    """Measure the parts of a training.

    Parameters
    ----------
    registry : ModelRegistry
    plan : Plan
        Base, method, batch, objects, device and threads are used.
    found : sequence of Entry
        Images; the first window with many objects is the one that is measured.

    Raises
    ------
    InputError
        If there is not enough memory, or the model or an image cannot be read.
    """
    from napari_histosam.models.trained import build_trainable

    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    fabric = make_fabric(plan)
    fabric.launch()
    torch.manual_seed(plan.seed)
    model = build_trainable(registry, plan.model, plan.method)
    model.module.to(fabric.device)
    samples = sorted(cut(found, model.card), key=lambda one: -len(one.numbers))
    start = time.time() - psutil.Process().create_time()
    encoded, encode = None, 0.0
    if plan.method == "decoder":
        encoded = Encoded(model, None, "probe", fabric.device, fabric.autocast)
        encode = _encoding(encoded, samples, fabric)
    learn, ask, gigabytes = _steps(fabric, model, plan, encoded, samples)
    examine, validate = _validation(fabric, model, encoded, samples[0])
    last = Spent(0.0, 0.0, 0.0, 0.0)
    if isinstance(model, Judged):
        view = Reader().read(samples[0])
        last = trial(model.judged(), Shown(view.image, view.labels, samples[0].numbers), plan.seed)
    kind = fabric.device.type
    gigabytes = max(gigabytes, peak_gigabytes(kind))
    entry = samples[0].entry
    del model, encoded
    gc.collect()
    return Trial(kind, start, encode, learn, ask, examine, validate, gigabytes, last, entry)


def painted(folder: Path, card: ModelCard, pitch: int = _PITCH) -> list[Entry]:
    """Paint an image full of small objects, of the size of a data set's window; return it.

    ``pitch`` is the distance of one object to the next, in px.
    """
    rng = np.random.default_rng(0)
    image = rng.normal((226, 188, 208), 6, (_SIDE, _SIDE, 3))
    labels = np.zeros((_SIDE, _SIDE), np.uint16)
    middles = range(pitch // 2, _SIDE, pitch)
    for number, (y, x) in enumerate(((y, x) for y in middles for x in middles), 1):
        cv2.circle(labels, (x, y), _RADIUS, number, -1)
    image[labels > 0] = rng.normal((96, 64, 142), 8, (int((labels > 0).sum()), 3))
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    paths = folder / "image.png", folder / "mask.png"
    paths[0].write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    paths[1].write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    return [Entry("painted", "probe", "painted", *paths, card.mpp, "painted")]


def _timed(do: Callable[[], Any], fabric: Fabric) -> float:
    begun = time.perf_counter()
    do()
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
    return time.perf_counter() - begun


def _encoding(encoded: Encoded, samples: Sequence[Sample], fabric: Fabric) -> float:
    """Return the seconds to encode a window, without what only the first one takes."""
    spent = 0.0
    for one in samples[:3]:
        spent = _timed(lambda one=one: encoded.prepare([one], lambda _: None), fabric)  # type: ignore[misc]
        if spent > _SLOW:
            break
    return spent


def _steps(
    fabric: Fabric,
    model: Trainable,
    plan: Plan,
    encoded: Encoded | None,
    samples: Sequence[Sample],
) -> tuple[float, float, float]:
    """Return the seconds of a step per window and per object, and the GB of a whole step."""
    parameters = [part for part in model.module.parameters() if part.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=plan.rate or model.rate, weight_decay=plan.decay)
    teacher = Teacher(
        model=model,
        encoded=encoded,
        seed=plan.seed,
        objects=plan.objects,
        device=fabric.device,
        autocast=fabric.autocast,
        backward=fabric.backward,
        memory=Memory(plan.memory_batch or plan.batch),
        alone=True,
        note=lambda _: None,
    )

    def step(batch: Sequence[Sample]) -> Callable[[], None]:
        def do() -> None:
            optimiser.zero_grad()
            teacher.gradients(batch, 0)
            optimiser.step()

        return do

    few = [replace(samples[0], numbers=samples[0].numbers[:1])]
    one = _timed(step(few), fabric)
    batch = plan.batch
    if one > _SLOW:
        batch = min(2, plan.batch)
    else:
        one = _timed(step(few), fabric)
    kind = fabric.device.type
    least = peak_gigabytes(kind)
    full = [samples[i % len(samples)] for i in range(batch)]
    many = _timed(step(full), fabric)
    most = peak_gigabytes(kind)
    if batch < plan.batch:
        # Each further window takes as much as the second one did.
        most += (plan.batch - batch) * (most - least)
    objects = sum(min(plan.objects, len(sample.numbers)) for sample in full)
    # one = learn + ask, and many = batch * learn + objects * ask.
    ask = max(many - batch * one, 0.0) / max(objects - batch, 1)
    return max(many - objects * ask, 0.0) / batch, ask, most


def _validation(
    fabric: Fabric, model: Trainable, encoded: Encoded | None, sample: Sample
) -> tuple[float, float]:
    """Return the seconds of a validation per window and per object."""
    objects = [Examined(sample, number, None) for number in sample.numbers[:5]]

    def of(part: Sequence[Examined]) -> float:
        return _timed(lambda: judge(model, part, encoded, fabric.device, fabric.autocast), fabric)

    first = of(objects[:1])
    if first < _SLOW:
        first = of(objects[:1])
    each = max(of(objects) - first, 0.0) / max(len(objects) - 1, 1)
    if len(objects) == 1:
        return 0.0, first
    return max(first - each, 0.0), each
