"""Which families of decoders there are, and the one place where each is found.

A family's folder has a module ``family`` with the functions of `Family`; nothing else in the
package needs to know how its networks are built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.models.trainable import Method, Trainable

# Decoder -> the folder of `napari_histosam.models` that builds it.
_FOLDERS = {
    "histosam-small": "small",
    "sam": "sam",
    "wsi-sam": "wsi_sam",
    "i-medsam": "i_medsam",
    "des-sam": "des_sam",
    "sam-lung": "sam_lung",
    "ep-sam": "ep_sam",
}
DECODERS = ("classical", *_FOLDERS)


class Family(Protocol):
    """What the module ``family`` of a decoder's folder offers."""

    def methods(self, card: ModelCard) -> tuple[Method, ...]:
        """Return the methods by which a model of the family can be trained."""
        ...

    def model(
        self,
        card: ModelCard,
        weights: Mapping[str, Tensor],
        source: str,
        weights_hash: str,
        device: str = "auto",
        say: Callable[[str], None] | None = None,
        others: Sequence[ModelCard] = (),
    ) -> PromptModel:
        """Make a model of its weights.

        Parameters
        ----------
        card : ModelCard
        weights : mapping of str to Tensor
            Under upstream's names; of several files, ``"part/name"``.
        source : str
            Where the weights come from, for messages.
        weights_hash : str
            SHA-256 that stands for all of them.
        device : str
        say : callable of str, optional
        others : sequence of ModelCard
            Cards that may take the place of ``card`` if the weights have another size.

        Raises
        ------
        InputError
            If the weights do not fit.
        """
        ...

    def trainable(self, card: ModelCard, weights: Mapping[str, Tensor], method: str) -> Trainable:
        """Return the model as it is trained by a method, on the CPU; see `model`."""
        ...


@runtime_checkable
class Begins(Protocol):
    """What the module ``family`` offers, too, if a new model can begin on another one's weights.

    Attributes
    ----------
    BASES : str
        What a base must be, for people.
    """

    BASES: str

    def fresh(
        self, base: Mapping[str, Tensor], side: int
    ) -> Mapping[str, Mapping[str, Tensor]] | None:
        """Return the weights of an untrained model on a base, by part (``""`` where there is one).

        Parameters
        ----------
        base : mapping of str to Tensor
            The weights of another model, under upstream's names.
        side : int
            Px of the window.

        Returns
        -------
        mapping, or None
            Without the part ``"encoder"``, which is the base itself; None if the base does not
            suit.
        """
        ...


@runtime_checkable
class CardsAnew(Protocol):
    """What the module ``family`` offers, too, if what begins here is used unlike what is published.

    Its authors' files may have quirks that new ones need not have.
    """

    def new_card(self, card: ModelCard) -> ModelCard:
        """Return the card of an untrained model; its ``variant`` tells the encoder."""
        ...


@runtime_checkable
class WritesParts(Protocol):
    """What the module ``family`` offers, too, if files of its own can be written."""

    def save_part(
        self, part: str, state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str]
    ) -> None:
        """Write one of the family's own parts as upstream does, with texts beside the weights."""
        ...


def check_decoder(card: ModelCard) -> None:
    """Raise InputError if this version does not have a card's decoder."""
    if card.decoder not in DECODERS:
        raise InputError(
            f"{card.name} needs the decoder {card.decoder}, which this version does not have: "
            "update napari-histosam."
        )


def family(decoder: str) -> Family:
    """Return the family of a decoder that has weights; imports torch."""
    return cast("Family", import_module(f"napari_histosam.models.{_FOLDERS[decoder]}.family"))


def beginners() -> tuple[str, ...]:
    """Return the decoders of which a new model can begin; imports torch."""
    return tuple(decoder for decoder in _FOLDERS if isinstance(family(decoder), Begins))


def has_weights(decoder: str) -> bool:
    """Tell whether a decoder has a network, and so can be trained."""
    return decoder in _FOLDERS
