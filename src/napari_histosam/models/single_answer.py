"""What all trainable decoders share that give one mask, and train some tensors of their network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from napari_histosam.models.trainable import Answers


class SingleAnswer(ABC):
    """A part of a `napari_histosam.models.trainable.Trainable`."""

    @abstractmethod
    def learned(self) -> Mapping[str, nn.Parameter]:
        """Return the trained parameters by the names under which they are kept."""

    def shown(self, answers: Answers, ambiguous: Tensor) -> Tensor:
        """Return the one mask that there is."""
        return torch.zeros_like(ambiguous, dtype=torch.long)

    def estimates(self, answers: Answers) -> Tensor:
        """Return the scores (k, 1) as users see them; they are not learned."""
        return answers.scores.float()

    def state(self) -> dict[str, Tensor]:
        """Return copies of the trained parameters, float32, on the CPU."""
        return {
            name: value.detach().to("cpu", copy=True).contiguous()
            for name, value in self.learned().items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
        own = self.learned()
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)
