"""What a fine-tuning run is to do: the request, frozen, and how it is written down."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

# What may differ when a run goes on: it changes where and how fast it runs, not what comes out.
_FREE = ("devices", "nodes", "accelerator", "memory_batch", "threads")


@dataclass(frozen=True)
class Plan:
    """A run of fine-tuning.

    Parameters
    ----------
    data : Path
        Folder with ``index.json``, or one that holds such folders.
    model : str
        Name of the base.
    method : str
        One of `napari_histosam.models.trainable.METHODS`.
    out : Path
        Folder of the run. One that holds an unfinished part of the same run is gone on with.
    epochs : int
        At most; each looks at every window of the training images once.
    seed : int
        Of everything random. Step n draws the same for the same seed, whenever it is made.
    batch : int
        Windows per optimiser step, over all devices together.
    objects : int
        Objects that are asked for in a window at most, drawn anew each time.
    rate : float, optional
        Peak learning rate; None takes the recipe's.
    decay : float
        AdamW's weight decay, of matrices only.
    warm_up : float
        Share of the steps until the peak.
    patience : int
        Epochs without a better validation after which the run ends.
    corrections : float
        How much more often an object is asked for, the more its first mask was corrected: its
        weight is 1 + corrections (1 - IoU). 0 leaves unused what is recorded of first masks and
        prompts. With 4, one whose first mask was half wrong is asked for three times as often, and
        none more than five times, so that what the model does well is not forgotten.
    sets : tuple of str
        Names of the sets to use; all where empty.
    boxes_only : bool
        Of models that learn from whole windows: learn from boxes and read no mask.
    one_class : str, optional
        Of models that learn from whole windows: learn all that the data tells apart as one class
        of this name.
    limit : int, optional
        Use so many training images, drawn by the seed.
    devices, nodes : int
        Processes on this machine, and machines.
    accelerator : {"auto", "cpu", "cuda", "mps"}
    memory_batch : int, optional
        Windows in memory at once; None starts with the whole share of a device.
    threads : int, optional
        CPU threads of each process.
    """

    data: Path
    model: str
    method: str
    out: Path
    epochs: int = 20
    seed: int = 0
    batch: int = 4
    objects: int = 8
    rate: float | None = None
    decay: float = 0.01
    warm_up: float = 0.05
    patience: int = 8
    corrections: float = 4.0
    sets: tuple[str, ...] = ()
    boxes_only: bool = False
    one_class: str | None = None
    limit: int | None = None
    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"
    memory_batch: int | None = None
    threads: int | None = None

    def check(self) -> None:
        """Raise InputError if a number makes no sense."""
        least = {"epochs": 1, "seed": 0, "batch": 1, "objects": 1, "patience": 1}
        least |= {"devices": 1, "nodes": 1, "memory_batch": 1, "limit": 1, "threads": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"--{name.replace('_', '-')} must be {low} or more, not {value}.")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise InputError(f"--rate must be a number above 0, not {self.rate}.")
        if self.one_class is not None and not self.one_class.strip():
            raise InputError("--one-class needs a name that is not empty, such as Tumour.")
        if not 0 <= self.corrections < math.inf:
            raise InputError(f"--corrections must be 0 or more, not {self.corrections}.")

    def record(self) -> dict[str, Any]:
        """Return what decides the result, ready for JSON."""
        kept = {k: v for k, v in asdict(self).items() if k not in (*_FREE, "out")}
        return {**kept, "data": str(self.data.resolve()), "sets": list(self.sets)}

    def difference(self, other: dict[str, Any]) -> str | None:
        """Return in words how an earlier run's record differs, or None if it does not."""
        mine = self.record()
        known = {field.name for field in fields(self)}
        parts = [f"{k} {other[k]}" for k in other if k in known and mine.get(k) != other[k]]
        return ", ".join(parts) or None

    def rate_at(self, step: int, steps: int, peak: float) -> float:
        """Return the learning rate of a step: linear up, then a half cosine down to 2 %."""
        warm = max(1, round(self.warm_up * steps))
        if step < warm:
            return peak * (step + 1) / warm
        done = (step - warm) / max(steps - warm, 1)
        return peak * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
