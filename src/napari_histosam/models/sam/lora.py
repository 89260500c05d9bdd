"""Low-rank updates of linear layers, for example SAM's fused qkv, that can be merged into them.

Hu et al. 2021, LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

DOWN, UP = "lora_down", "lora_up"
RANK = 8


class LoraLinear(nn.Linear):
    """A linear layer y = x W^T + b with an update: W + up @ down, of low rank.

    ``weight`` and ``bias`` keep their names, so that the plain layer's state still fits. ``up``
    starts at zero: the new layer computes what the old one did.

    Parameters
    ----------
    plain : nn.Linear
        Its weight and bias are shared, not copied.
    rank : int
    """

    def __init__(self, plain: nn.Linear, rank: int = RANK) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, "meta")
        self.weight, self.bias = plain.weight, plain.bias
        device = plain.weight.device
        self.lora_down = nn.Parameter(torch.empty(rank, plain.in_features, device=device))
        self.lora_up = nn.Parameter(torch.zeros(plain.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))
        self._before: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        y = functional.linear(x, self.weight, self.bias)
        if self._before is not None:
            return y
        return y + functional.linear(functional.linear(x, self.lora_down), self.lora_up)

    @torch.no_grad()
    def merge(self) -> None:
        """Make the update a part of the weight: the same function, as fast as the plain layer."""
        if self._before is None:
            self._before = self.weight.detach().clone()
            self.weight.copy_(merged(self.weight, self.lora_down, self.lora_up))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the update out again; the weight is bit for bit what it was."""
        if self._before is not None:
            self.weight.copy_(self._before)
            self._before = None


def merged(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return W + up @ down, (out, in) float32, summed in float64."""
    return (weight.double() + up.double() @ down.double()).to(torch.float32)


def add_lora(encoder: nn.Module, rank: int = RANK) -> None:
    """Give every fused qkv layer of an encoder a low-rank update; in place."""
    for parent in list(encoder.modules()):
        plain = getattr(parent, "qkv", None)
        if isinstance(plain, nn.Linear) and not isinstance(plain, LoraLinear):
            parent.qkv = LoraLinear(plain, rank)


def lora_layers(module: nn.Module) -> Iterator[LoraLinear]:
    """Yield the layers that have an update."""
    return (part for part in module.modules() if isinstance(part, LoraLinear))
