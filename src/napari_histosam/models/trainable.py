"""What a decoder offers to be trained: its parts, its view of an object, its loss, its state.

One training loop drives every decoder through `Trainable`. Windows are what a `PromptModel`
encodes; for each object the decoder looks at a `Place` of its window, in *net px*, and answers at
half their resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import cv2
import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.losses import PerObject
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.small.network import SmallNet

    Features = Mapping[str, Tensor]

Method = Literal["decoder", "lora", "mona", "full"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Place:
    """The part of a window that a decoder looks at for one object.

    Parameters
    ----------
    left, top, width, height : int
        Net px; width and height are even.
    factor : float
        Window px per net px.
    octave : int
        Which of a model's scales it belongs to, where there are several.
    """

    left: int
    top: int
    width: int
    height: int
    factor: float
    octave: int = 0

    def to_net(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map window px (..., 2), corner based, to net px of the place."""
        return at / self.factor - (self.left, self.top)

    def cut(self, image: NDArray[np.generic], per_px: float = 1.0) -> NDArray[np.float32]:
        """Return a window's map as the place shows it: means over area, 0 beyond the border.

        Parameters
        ----------
        image : (h, w) array
            Bool or float, over the whole window.
        per_px : float
            Px of the map per px of the window: 0.5 for one at half resolution, which comes back
            at half of the place's.
        """
        step = self.factor
        size = round(self.width * per_px), round(self.height * per_px)
        x, y = round(self.left * step * per_px), round(self.top * step * per_px)
        reach = round(size[0] * step), round(size[1] * step)
        out = np.zeros((reach[1], reach[0]), np.float32)
        part = image[max(y, 0) : y + reach[1], max(x, 0) : x + reach[0]]
        out[: part.shape[0], : part.shape[1]] = part
        if step == 1:
            return out
        how = cv2.INTER_AREA if step > 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(out, size, interpolation=how), np.float32)


class NetPrompts(Protocol):
    """The prompts of one object so far, in net px (corner based) of its place."""

    @property
    def points(self) -> Sequence[tuple[float, float]]:
        """Clicks: x, y."""
        ...

    @property
    def labels(self) -> Sequence[int]:
        """1 positive, 0 negative, one for each click."""
        ...

    @property
    def box(self) -> NDArray[np.float64] | None:
        """Left, top, right, bottom."""
        ...

    @property
    def previous(self) -> NDArray[np.float32] | None:
        """Probability (height / 2, width / 2) of the mask that the user sees."""
        ...

    @property
    def ambiguous(self) -> bool:
        """Whether all that is known is one click."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a decoder says about k of the objects it was asked for.

    Parameters
    ----------
    rows : tuple of int
        Their places in the request.
    logits : (k, m, height / 2, width / 2) tensor
        m masks for each, at half of net px.
    scores : (k, m) tensor
        As the network gives them; `Trainable.estimates` makes IoUs of them.
    more : mapping of str to tensor
        What else the decoder's own loss looks at, k rows each.
    """

    rows: tuple[int, ...]
    logits: Tensor
    scores: Tensor
    more: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Trainable(Protocol):
    """A decoder of which some parameters are to be trained.

    Attributes
    ----------
    card : ModelCard
        Of the base.
    method : str
        One of `METHODS`.
    module : nn.Module
        All that the device needs; ``requires_grad`` says what is trained.
    rate : float
        The recipe's peak learning rate for the method.
    object_px : float
        Net px that the side (root of the area) of an object has best.
    """

    card: ModelCard
    method: Method
    module: nn.Module
    rate: float
    object_px: float

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return what `encode` takes of one view, on the CPU, to be stacked.

        Parameters
        ----------
        images : (h, w, 3) uint8 arrays
            One per entry of ``card.window_scales``, around one centre, finest first.
        """
        ...

    def needed(self, places: Collection[Place]) -> set[str]:
        """Return which of the inputs `encode` needs for these places."""
        ...

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features of n windows, each tensor (n, …); differentiable.

        Names and shapes are those of the arrays that the `PromptModel` of the same decoder
        remembers of a window, so that both may share a cache.
        """
        ...

    def places(
        self, prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, size: tuple[int, int]
    ) -> list[Place]:
        """Return where the decoder looks in use: one place, or several that compete by score.

        Parameters
        ----------
        prompts : ObjectPrompts
            The first ones, window px.
        earlier : (h / 2, w / 2) float array, optional
            Probability of an earlier mask over the window.
        size : tuple of int
            Width and height of the window in px.
        """
        ...

    def decode(
        self,
        features: Features,
        of: Sequence[int],
        places: Sequence[Place],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        """Answer the prompts of objects; differentiable.

        Parameters
        ----------
        features : mapping of str to tensor
            From `encode`, or kept from it, on the module's device.
        of : sequence of int
            The window of each object.
        places, prompts : sequence
            One for each object.

        Returns
        -------
        list of Answers
            In groups that fit one tensor; together they answer every object once.
        """
        ...

    def shown(self, answers: Answers, ambiguous: Tensor) -> Tensor:
        """Return which mask (k,) a user sees first; ``ambiguous`` (k,) bool."""
        ...

    def estimates(self, answers: Answers) -> Tensor:
        """Return the predicted IoUs (k, m), 0 to 1."""
        ...

    def loss(
        self,
        answers: Answers,
        truth: Tensor,
        areas: Tensor,
        ambiguous: Tensor,
        around: Tensor | None = None,
    ) -> PerObject:
        """Return the recipe's loss for each of k objects.

        Parameters
        ----------
        answers : Answers
        truth : (k, height, width) bool tensor
        areas : (k,) tensor
            Whole areas in net px, also of what lies beyond the place.
        ambiguous : (k,) bool tensor
        around : (k, n, height, width) bool tensor, optional
            The objects in the n coarser windows, where the model looks at several.
        """
        ...

    def pace(self, name: str) -> float:
        """Return the share of ``rate`` at which a parameter of the module learns."""
        ...

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Switch what differs in training (dropout); norms keep their statistics always.

        ``epoch``, counted from 0, is for recipes whose loss changes in the course of a run.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what was trained, under upstream's names, on the CPU, to be kept or resumed."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
        ...


@runtime_checkable
class Judged(Protocol):
    """What a `Trainable` has, too, if a part of its network judges which mask a click means.

    At the end of a run that part is taught anew, see `napari_histosam.train.finetune.settling`.
    """

    def judged(self) -> SmallNet:
        """Return the network, whose ``judge`` is that part."""
        ...


def check_method(card: ModelCard, method: str, offered: Sequence[Method]) -> Method:
    """Return a method that a model has.

    Raises
    ------
    InputError
        If it has it not; the sentence names those that it has.
    """
    for known in offered:
        if method == known:
            return known
    raise InputError(
        f"{card.name} cannot be trained by the method {method!r}: choose "
        f"{' or '.join((', '.join(offered[:-1]), offered[-1]) if len(offered) > 1 else offered)}."
    )


def boxes_only(model: Trainable) -> bool:
    """Tell whether a model takes no clicks: then it learns and is validated by boxes."""
    return "point" not in model.card.prompts


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's trained parameters, by their own names, on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in module.named_parameters()
        if value.requires_grad
    }
