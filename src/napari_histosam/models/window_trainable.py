"""What a decoder offers to be trained on whole windows, where it takes no prompts to learn from.

`napari_histosam.models.trainable` is for decoders that answer prompts of single objects. One that
finds objects or regions by itself learns from all that a window shows at once; one loop drives all
of these through `WindowTrainable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from napari_histosam.models.automatic import Detections
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

UNNAMED = -1
"""The kind of an object whose class is not known."""

UNKNOWN = 255
"""The area of px of which nothing is known."""


@dataclass(frozen=True)
class WindowTruth:
    """All that is known of one window: of its n objects, or of its areas.

    Parameters
    ----------
    boxes : (n, 4) float array
        Left, top, right, bottom in window px, corner based.
    kinds : (n,) int array
        The number of each one's class in ``card.classes``, or `UNNAMED`.
    masks : sequence of n (h, w) bool arrays or None, or None
        Outlines over the whole window, of those objects that have one; None where none has.
    ignore : (h, w) bool array, optional
        Where it is not known whether there are objects.
    areas : (h, w) uint8 array, optional
        The number of each px's class in ``card.classes`` plus 1, 0 where it is none of them,
        `UNKNOWN` where that is not known.
    """

    boxes: NDArray[np.float64]
    kinds: NDArray[np.int64]
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    ignore: NDArray[np.bool_] | None = None
    areas: NDArray[np.uint8] | None = None

    @classmethod
    def of_areas(cls, areas: NDArray[np.uint8]) -> WindowTruth:
        """Return what is known of a window's areas alone."""
        return cls(np.zeros((0, 4)), np.zeros(0, np.int64), areas=areas)


class Look(NamedTuple):
    """A window as a model gets it: from `prepare`, from `encode`, both on its device; the truth."""

    inputs: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]
    truth: WindowTruth


@runtime_checkable
class WindowTrainable(Protocol):
    """A decoder of which some parameters are to be trained, window by window.

    Attributes
    ----------
    card : ModelCard
        Of the base, with the classes that are to be learned.
    method : str
    module : nn.Module
        All that the device needs; ``requires_grad`` says what is trained.
    rate : float
        The recipe's peak learning rate for one window a step.
    """

    card: ModelCard
    method: Method
    module: nn.Module
    rate: float

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return what `encode` and `losses` take of one window, on the CPU.

        Parameters
        ----------
        images : (h, w, 3) uint8 arrays
            One per entry of ``card.window_scales``, around one centre, finest first.
        """
        ...

    def encode(self, inputs: Mapping[str, Tensor], truth: WindowTruth) -> dict[str, Tensor]:
        """Return what is the same in every epoch, to be kept: features, and targets made of them.

        Parameters
        ----------
        inputs : mapping of str to tensor
            From `prepare`, on the module's device.
        truth : WindowTruth

        Returns
        -------
        dict of str to tensor
            Float, kept as float16, or uint8; on the module's device.
        """
        ...

    def losses(self, windows: Sequence[Look]) -> Iterator[dict[str, Tensor]]:
        """Yield the mean loss of windows in parts, by name, to be added.

        Whoever asks for the next part has propagated the one before, so that memory holds one.
        What is drawn at random comes from torch's global generator.
        """
        ...

    def optimiser(self, rate: float) -> Optimizer:
        """Return the recipe's optimiser of what is trained."""
        ...

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Switch what differs in training; ``epoch`` counts from 0."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what was trained, under upstream's names, on the CPU, to be kept or resumed."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
        ...


@runtime_checkable
class FindsObjects(WindowTrainable, Protocol):
    """One whose card's ``finds`` is ``"objects"``."""

    def found(
        self, kept: Mapping[str, Tensor], size: tuple[int, int], masks: bool = True
    ) -> Detections:
        """Return what the model as it is now finds in a window of ``size``, width and height.

        Without ``masks``, of which nobody knows the truth, these may be left out: most of the time
        goes into drawing them.
        """
        ...


@runtime_checkable
class FindsAreas(WindowTrainable, Protocol):
    """One whose card's ``finds`` is ``"regions"``."""

    def likely(self, window: Look) -> NDArray[np.float32]:
        """Return how likely each px (h, w) of a window is of each of k classes: (k, h, w)."""
        ...


@runtime_checkable
class Paced(Protocol):
    """One whose recipe has its own course of the learning rate."""

    def pace(self, step: int, per_epoch: int, epochs: int) -> float:
        """Return the share of the peak rate after so many steps, of ``per_epoch`` an epoch."""
        ...


def learns_windows(card: ModelCard) -> bool:
    """Tell whether a model is trained on whole windows: it finds things without prompts."""
    return card.finds is not None
