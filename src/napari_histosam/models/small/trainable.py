"""The bundled network as it is fine-tuned: its decoder alone on kept features, or all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_histosam.models.small import octaves
from napari_histosam.models.small.encoder import STRIDES, Features
from napari_histosam.models.small.layers import in_channels_last
from napari_histosam.models.small.loss import per_object
from napari_histosam.models.small.prompt_maps import gathered
from napari_histosam.models.trainable import Answers, Place, check_method, trained_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.losses import PerObject
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.models.trainable import Method, NetPrompts

METHODS: tuple[Method, ...] = ("decoder", "full")
# Far below the rate of a training from scratch: few images must not undo what many have taught.
_RATES = {"decoder": 3e-4, "full": 1e-4}


class SmallTrainable:
    """`histosam-small` as a `Trainable`.

    Parameters
    ----------
    card : ModelCard
    net : SmallNet
        With the base's weights; it is changed in place.
    method : {"decoder", "full"}

    Raises
    ------
    InputError
        If the method is another one.
    """

    object_px = 34.0

    def __init__(self, card: ModelCard, net: SmallNet, method: str) -> None:
        self.card = card
        self.method = check_method(card, method, METHODS)
        self.rate = _RATES[self.method]
        self.module: Any = in_channels_last(net.requires_grad_(False).eval())
        (net if method == "full" else net.decoder).requires_grad_(True)
        net.judge.requires_grad_(False)  # it compares what the decoder gives and is taught apart

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return the window (h, w, 3) at all octaves: uint8 tensors (3, h, w)."""
        (image,) = images
        parts = octaves.octave_images(image)
        return {
            _input(octave): torch.from_numpy(part).permute(2, 0, 1).contiguous()
            for octave, part in enumerate(parts)
        }

    def needed(self, places: Collection[Place]) -> set[str]:
        """Return the inputs of those octaves that any place belongs to."""
        return {_input(place.octave) for place in places}

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return features ``"octave{i}_stride{j}"`` (n, channels, h, w)."""
        found = {}
        for name, pixels in inputs.items():
            scaled = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
            for stride, level in zip(STRIDES, self.module.encode(scaled), strict=True):
                found[f"{name}_stride{stride}"] = level
        return found

    def places(
        self, prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, size: tuple[int, int]
    ) -> list[Place]:
        """Return one crop, or one of each octave where clicks leave the size open."""
        crops = octaves.choose(prompts, None if earlier is None else earlier > 0.5, size)
        return [
            Place(crop.left, crop.top, crop.width, crop.height, crop.factor, crop.octave)
            for crop in crops
        ]

    def decode(
        self,
        features: Mapping[str, Tensor],
        of: Sequence[int],
        places: Sequence[Place],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        """Answer prompts; crops of one size go through the network together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, place in enumerate(places):
            groups.setdefault((place.height, place.width), []).append(row)
        out = []
        for shape, rows in groups.items():
            seen = _cut(features, [of[r] for r in rows], [places[r] for r in rows])
            batch = gathered([prompts[r] for r in rows], shape, str(seen.half.device))
            out.append(Answers(tuple(rows), *self.module.decode(seen, batch)))
        return out

    def shown(self, answers: Answers, ambiguous: Tensor) -> Tensor:
        """Return the mask that scores best for a single click, else the first."""
        return torch.where(ambiguous, answers.scores.argmax(1), 0)

    def estimates(self, answers: Answers) -> Tensor:
        """Return the predicted IoUs (k, m)."""
        return answers.scores.float().sigmoid()

    def loss(
        self,
        answers: Answers,
        truth: Tensor,
        areas: Tensor,
        ambiguous: Tensor,
        around: Tensor | None = None,
    ) -> PerObject:
        """Return the loss that the network was trained with, for each object."""
        return per_object(answers.logits, answers.scores, truth, areas, ambiguous)

    def pace(self, name: str) -> float:
        """Return 1: all learns at one rate."""
        return 1.0

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Do nothing: there is no dropout, and norms keep their statistics."""

    def judged(self) -> SmallNet:
        """Return the network, see `napari_histosam.models.trainable.Judged`."""
        net: SmallNet = self.module
        return net

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters, float32."""
        return trained_state(self.module)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take trained parameters."""
        self.module.load_state_dict(state, strict=False)


def _input(octave: int) -> str:
    return f"octave{octave}"


def _cut(features: Mapping[str, Tensor], of: Sequence[int], places: Sequence[Place]) -> Features:
    levels = []
    for stride in STRIDES:
        parts = []
        for row, place in zip(of, places, strict=True):
            level = features[f"{_input(place.octave)}_stride{stride}"][row]
            top, left = place.top // stride, place.left // stride
            bottom, right = top + place.height // stride, left + place.width // stride
            parts.append(level[:, top:bottom, left:right].float())
        stacked = torch.stack(parts)
        levels.append(stacked.contiguous(memory_format=torch.channels_last))
    return Features(*levels)
