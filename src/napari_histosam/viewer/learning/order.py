"""What a training is asked to do: slides, base, method, epochs; how it is kept and named."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.models import ModelRegistry

JUDGED = 40
"""Objects per held-out window that the comparison asks for; more make it longer, hardly surer."""
# The result is for the window; the trace of what nobody foresaw is for the log.
_TOLD = ("--json", "--debug")


@dataclass(frozen=True)
class Order:
    """A training to be done.

    Parameters
    ----------
    sources : tuple of Path
        Stores or slides, as ``histosam dataset`` takes them.
    slides : tuple of str
        Their names, for people.
    objects : int
        How many objects they hold.
    model, method : str
        The base and one of its methods, as `napari_histosam.viewer.learning.bases` has them.
    epochs : int
    data : str
        Name of the data set.
    name : str
        Of the model that will be made.
    threads : int, optional
        CPU threads; None leaves it to the trainer.
    expected, comparison : float, optional
        Seconds that all of it, and the comparison alone, were estimated to take.
    """

    sources: tuple[Path, ...]
    slides: tuple[str, ...]
    objects: int
    model: str
    method: str
    epochs: int
    data: str
    name: str
    threads: int | None = None
    expected: float | None = None
    comparison: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the order ready for JSON."""
        return {**asdict(self), "sources": [str(p) for p in self.sources]}

    @classmethod
    def read(cls, data: dict[str, Any]) -> Order:
        """Return the order that `record` wrote.

        Raises
        ------
        InputError
            If members are missing or unknown.
        """
        try:
            sources = tuple(Path(p) for p in data["sources"])
            return cls(**{**data, "sources": sources, "slides": tuple(data["slides"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"This training's order cannot be read ({error}).") from error

    def dataset_arguments(self, out: Path) -> list[str]:
        """Return the command line that builds the data set."""
        sources = [str(path) for path in self.sources]
        return ["dataset", *sources, "--out", str(out), "--model", self.model, *_TOLD]

    def train_arguments(self, data: Path, out: Path) -> list[str]:
        """Return the command line that trains and compares."""
        made = ["train", str(data), "--model", self.model, *method_arguments(self.method)]
        made += ["--epochs", str(self.epochs), "--out", str(out), "--name", self.name]
        made += ["--max-objects", str(JUDGED)]
        if self.threads is not None:
            made += ["--threads", str(self.threads)]
        return [*made, *_TOLD]

    @property
    def about(self) -> str:
        """The order in a few words."""
        slides = f"{len(self.slides)} slide{'s' * (len(self.slides) != 1)}"
        return f"{self.model} · {self.method} · {slides}, {self.objects} objects"


def method_arguments(method: str) -> list[str]:
    """Return what `histosam train` calls one of the tab's methods."""
    if method == "boxes":
        return ["--method", "decoder", "--boxes-only"]
    return ["--method", method]


def data_name(slides: Sequence[str]) -> str:
    """Return a name for a data set of slides: the first one's, and how many more there are."""
    stem = re.sub(r"[^a-z0-9]+", "-", Path(slides[0]).stem.lower()).strip("-")[:24].strip("-")
    more = f"-and-{len(slides) - 1}-more" if len(slides) > 1 else ""
    return f"{stem or 'slide'}{more}"


def model_name(registry: ModelRegistry, base: str, data: str, taken: Sequence[str] = ()) -> str:
    """Return a free name for a model that is trained from another one.

    Parameters
    ----------
    registry : ModelRegistry
    base : str
    data : str
        Name of the data set.
    taken : sequence of str
        Names that other trainings have been promised.
    """
    cards = registry.cards()
    root, seen = registry.get(base), set()
    while root.trained is not None and root.trained.base in cards and root.name not in seen:
        # A model of a model would else get a name of names.
        seen.add(root.name)
        root = cards[root.trained.base]
    known = {*cards, *taken, *(alias for card in cards.values() for alias in card.aliases)}
    wish = name = f"{root.name}-{data}"[:56].strip("-.")
    number = 2
    while name in known:
        name, number = f"{wish}-{number}", number + 1
    return name


def spare_threads() -> int:
    """Return CPU threads for a training beside a window that shall stay quick."""
    return max(1, (os.cpu_count() or 2) - 1)
