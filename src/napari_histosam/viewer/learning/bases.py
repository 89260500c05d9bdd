"""Which models can be trained here, by which methods, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_histosam.viewer.learning.follow import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models import ModelCard, ModelRegistry
    from napari_histosam.viewer.learning.course import Course

METHODS = {
    "decoder": ("Decoder only (quick)", "What answers the prompts learns; the one to begin with"),
    "lora": ("LoRA", "Small changes all through the encoder, too"),
    "mona": ("Mona adapters", "Small new layers in the encoder, for tissue that looks different"),
    "full": ("Everything (slow)", "The whole network learns; for many objects"),
}
"""Method → title and explanation."""


@dataclass(frozen=True)
class Base:
    """A model that can be trained.

    Parameters
    ----------
    card : ModelCard
    methods : tuple of str
    """

    card: ModelCard
    methods: tuple[str, ...]


def bases(registry: ModelRegistry) -> list[Base]:
    """Return the models whose weights are here and that offer to be trained.

    Heavy at the first call, since it asks the networks: not for the window's thread.
    """
    from napari_histosam.models.trained import methods_of

    found = []
    for card in registry.cards().values():
        if not card.files or not registry.is_ready(card.name) or registry.needs_consent(card.name):
            continue
        methods = methods_of(card)
        if methods:
            found.append(Base(card, tuple(methods)))
    # What was made here last is what one goes on with.
    return sorted(found, key=lambda one: one.card.trained is None)


@dataclass(frozen=True)
class Cost:
    """What a training takes on a device.

    Parameters
    ----------
    encode : float
        Seconds to encode a window.
    step : float
        Seconds to learn from a window, without the encoder.
    memory : float
        GB in all.
    """

    encode: float
    step: float
    memory: float


# Rough guesses, measured nowhere: they stand until a training of the kind has run on the machine.
_COSTS = {
    ("histosam-small", "cpu"): Cost(0.15, 0.15, 1.2),
    ("histosam-small", "gpu"): Cost(0.02, 0.03, 1.5),
    ("vit_t", "cpu"): Cost(0.8, 0.5, 2.0),
    ("vit_t", "gpu"): Cost(0.04, 0.06, 2.0),
    ("vit_b", "cpu"): Cost(4.0, 0.5, 3.5),
    ("vit_b", "gpu"): Cost(0.12, 0.06, 3.5),
    ("vit_l", "cpu"): Cost(9.0, 0.5, 6.0),
    ("vit_l", "gpu"): Cost(0.25, 0.06, 6.0),
    ("vit_h", "cpu"): Cost(16.0, 0.5, 9.0),
    ("vit_h", "gpu"): Cost(0.4, 0.06, 9.0),
}
# Where the encoder learns, too, it goes forward and back in each epoch, and keeps what it saw.
_BACK, _MORE_MEMORY = 3.0, 2.0
# Seconds until the first window, and epochs that the comparison is worth.
_START, _COMPARED = 6.0, 2
# A window of the data set fills a screen of so many px; models see it in parts of their own size.
_SCREEN = 1024


@dataclass(frozen=True)
class Estimate:
    """What a training will take, about.

    Parameters
    ----------
    seconds, gigabytes : float
    device : str
    measured : bool
        Whether the time comes from an earlier training of this kind on this machine.
    """

    seconds: float
    gigabytes: float
    device: str
    measured: bool

    @property
    def text(self) -> str:
        """The estimate in one sentence."""
        how = "by your last training of this kind" if self.measured else "a rough guess"
        return (
            f"About {duration(self.seconds)} and {self.gigabytes:.2g} GB of memory on the "
            f"{self.device.upper()} ({how}; it may end earlier when nothing improves)."
        )


def estimate(
    card: ModelCard, method: str, epochs: int, windows: int, device: str, earlier: Sequence[Course]
) -> Estimate:
    """Estimate a training.

    Parameters
    ----------
    card : ModelCard
        Of the base.
    method : str
    epochs, windows : int
        Windows of the data set, about.
    device : str
        Where models run here.
    earlier : sequence of Course
        The latest first.
    """
    kind = "cpu" if device in ("", "cpu") else "gpu"
    size = card.variant if card.decoder == "sam" else card.decoder
    cost = _COSTS.get((str(size), kind)) or _COSTS["vit_b", kind]
    if method == "decoder":
        each, once, memory = cost.step, cost.encode, cost.memory
    else:
        each, once = cost.step + _BACK * cost.encode, 0.0
        memory = cost.memory * _MORE_MEMORY
    windows = max(windows, 1)
    parts = max(_SCREEN / card.window_px, 1.0) ** 2
    known = pace(card.name, method, earlier)
    around = _START + windows * parts * (once + _COMPARED * (cost.encode + cost.step))
    seconds = around + epochs * windows * (known or each * parts)
    return Estimate(seconds, memory, kind, known is not None)


def pace(model: str, method: str, earlier: Sequence[Course]) -> float | None:
    """Return the seconds per window and epoch of the last training of a kind; None if none was."""
    from napari_histosam.train.finetune.folder import RunFolder

    for course in earlier:
        order = course.read("order")
        if (order.get("model"), order.get("method")) != (model, method):
            continue
        windows = sum(
            int(part.get("windows", 0))
            for name, part in course.read("dataset").get("splits", {}).items()
            if name != "test"
        )
        rows = [row for row in RunFolder(course.run).rows() if row.get("kind") == "epoch"]
        if windows and len(rows) > 1:
            spent = float(rows[-1]["seconds"]) - float(rows[0]["seconds"])
            return spent / (len(rows) - 1) / windows
    return None
