"""What a decoder offers to be trained on whole windows, where it takes no prompts to learn from.

`napari_histosam.models.trainable` is for decoders that answer prompts of single objects. One that
finds objects or regions by itself learns from all that a window shows at once; one loop drives all
of these through `WindowTrainable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from napari_histosam.models.automatic import Detections
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.trainable import Method

UNNAMED = -1
"""The kind of an object whose class is not known."""


@dataclass(frozen=True)
class WindowTruth:
    """All that is known of the n objects of one window.

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
    """

    boxes: NDArray[np.float64]
    kinds: NDArray[np.int64]
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    ignore: NDArray[np.bool_] | None = None


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

    def losses(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor], truth: WindowTruth
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the loss of one window in parts, by name, to be added.

        Whoever asks for the next part has propagated the one before, so that memory holds one.
        What is drawn at random comes from torch's global generator.
        """
        ...

    def found(self, kept: Mapping[str, Tensor], size: tuple[int, int]) -> Detections:
        """Return what the model as it is now finds in a window of ``size``, width and height."""
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


def learns_windows(card: ModelCard) -> bool:
    """Tell whether a model is trained on whole windows: it finds things without prompts."""
    return card.finds is not None
