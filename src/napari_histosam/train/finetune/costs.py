"""What a training costs on a machine: measured seconds and GB, and what follows for a whole run."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

# As `Plan` and the validation have it: objects asked for in a window, learning and validating.
_ASKED, _VALIDATED = 8, 12
# As the last part of a run has it (settling): rounds, windows and objects that are looked at.
_ROUNDS, _LOOKS, _SHOWN = 8, 160, 6
_MODELS_COMPARED = 2
# What a run does before its first and behind its last epoch.
_AROUND = ("start", "encode", "compare", "look", "seek", "weigh", "teach")


@dataclass(frozen=True)
class Costs:
    """Measured costs of training a model by a method on a device; times in s.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    start : float
        From the start of the process until the first window, and until both models are ready to be
        compared.
    encode : float
        To encode a window once, where the encoder is not trained; else 0.
    learn, ask : float
        Of a step: per window, and per object that is asked for in it.
    examine, validate : float
        Of a validation: per window, and per object.
    compare : float
        Per object of the comparison and model.
    gigabytes : float
        At the peak: of the process, or of the GPU.
    source : {"probe", "run"}
        Whether from a short trial or from a training that was run to its end.
    look, seek : float
        Of the last part, where a model's judge is taught anew: per window that is looked at, and
        per object in it; 0 for models without a judge, as all that follows.
    weigh : float
        Per object held out, in the same part.
    teach : float
        What that part takes whatever the data.
    """

    device: str
    start: float
    encode: float
    learn: float
    ask: float
    examine: float
    validate: float
    compare: float
    gigabytes: float
    source: str = "probe"
    look: float = 0.0
    seek: float = 0.0
    weigh: float = 0.0
    teach: float = 0.0

    def record(self) -> dict[str, Any]:
        """Return the costs ready for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Costs:
        """Return the costs that `record` wrote.

        Raises
        ------
        InputError
            If members are missing, or are no numbers of 0 or more.
        """
        try:
            made = cls(**{one.name: data[one.name] for one in fields(cls)})
            values = [getattr(made, one.name) for one in fields(cls) if one.type == "float"]
            if not all(math.isfinite(value) and value >= 0 for value in values):
                raise ValueError("a cost is no number")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"These costs cannot be read ({error}); measure again.") from error
        return made

    def epoch(self, work: Work) -> float:
        """Return the seconds of an epoch: its steps and its validation."""
        asked = min(work.per_window, _ASKED) * self.ask
        return work.train * (self.learn + asked) + self.validation(work)

    def validation(self, work: Work) -> float:
        """Return the seconds of a validation."""
        return work.val * (self.examine + min(work.per_window, _VALIDATED) * self.validate)

    def before(self, work: Work) -> float:
        """Return the seconds until the first epoch begins: the base is validated, too."""
        return self.start + (work.train + work.val) * self.encode + self.validation(work)

    def comparison(self, work: Work) -> float:
        """Return the seconds of before and after on what is held out."""
        return _MODELS_COMPARED * work.judged * self.compare

    def settling(self, work: Work) -> float:
        """Return the seconds of the last part: a judge is taught anew, if the model has one."""
        learned, held_out = min(_LOOKS, _ROUNDS * work.train), min(_LOOKS, work.val)
        shown = min(work.per_window, _SHOWN)
        looking = (learned + held_out) * (self.look + shown * self.seek)
        return looking + held_out * shown * self.weigh + self.teach

    def after(self, work: Work) -> float:
        """Return the seconds of what comes behind the last epoch."""
        return self.settling(work) + self.comparison(work)

    def whole(self, work: Work) -> float:
        """Return the seconds of a training in which all epochs are run."""
        return self.before(work) + work.epochs * self.epoch(work) + self.after(work)

    def corrected(self, work: Work, whole: float, epochs: float, gigabytes: float) -> Costs:
        """Return the costs as a run has shown them.

        Parameters
        ----------
        work : Work
            What the run did; ``epochs`` are those that were done.
        whole, epochs : float
            Seconds of all of it, and of its epochs alone.
        gigabytes : float
        """
        around = self.before(work) + self.after(work)
        # Learning and validating are not told apart in a run: both change by one factor.
        pace = epochs / max(work.epochs * self.epoch(work), 1e-6)
        rest = max(whole - epochs, 0.0)
        other = max(rest - self.validation(work) * pace, 0.1 * rest)
        other /= max(around - self.validation(work), 1e-6)
        return replace(
            self,
            source="run",
            gigabytes=gigabytes,
            **{name: getattr(self, name) * other for name in _AROUND},
            **{
                name: getattr(self, name) * pace for name in ("learn", "ask", "examine", "validate")
            },
        )


@dataclass(frozen=True)
class Work:
    """What a training has to do, about.

    Parameters
    ----------
    train, val : float
        Windows, as the model sees them, to learn from and to validate with.
    per_window : float
        Objects in each.
    judged : float
        Objects that the models are compared on.
    epochs : int
    """

    train: float
    val: float
    per_window: float
    judged: float
    epochs: int


def work_of(
    parts: int, windows: Mapping[str, int], objects: Mapping[str, int], epochs: int, most: int
) -> Work:
    """Return the work that a data set makes.

    Parameters
    ----------
    parts : int
        Windows of a model that cover a window of the data set, see
        `napari_histosam.train.finetune.windows.parts_of`.
    windows, objects : mapping of str to int
        By split: ``train``, ``val``, ``test``.
    epochs : int
    most : int
        Objects of a window of the data set that are compared on.
    """
    many = max(sum(windows.values()), 1)
    each = sum(objects.values()) / many
    # Objects that lie anywhere fall into so many of the parts, on average.
    used = max(parts * (1 - (1 - 1 / parts) ** each), 1.0)
    judged = "test" if objects.get("test") else "val"
    return Work(
        train=windows.get("train", 0) * used,
        val=windows.get("val", 0) * used,
        per_window=each / used,
        judged=min(objects.get(judged, 0), most * windows.get(judged, 0)),
        epochs=epochs,
    )


def expected_splits(total: int, groups: int) -> dict[str, int]:
    """Return how much of ``total`` falls into each split when ``groups`` slides are split."""
    val = round(total * max(0.15, 1 / max(groups, 2)))
    test = round(total * 0.15) if groups * 0.15 >= 1 else 0
    return {"train": max(total - val - test, 1), "val": max(val, 1), "test": test}


def peak_gigabytes(device: str) -> float:
    """Return the most memory that this process has held so far: the GPU's on one, else RAM."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_reserved() / 1e9
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: what it tells begins with the memory of the process that started this one.
        lines = status.read_text("ascii", "replace").splitlines()
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0]) * 1024 / 1e9
    import psutil

    about = psutil.Process(os.getpid()).memory_info()
    if hasattr(about, "peak_wset"):
        return float(about.peak_wset) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9
