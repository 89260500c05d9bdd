"""Building blocks of the bundled network: convolution with batch norm, and a residual pair."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)


def in_channels_last(net: M) -> M:
    """Return a network with its weights in the layout that CPUs and GPUs are quicker with."""
    # torch's stubs do not know that modules take a memory format.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


class ConvNorm(nn.Sequential):
    """A 3 x 3 convolution (or another size), batch norm, SiLU.

    Dense convolutions throughout: depthwise ones save arithmetic but not time on a CPU.

    Parameters
    ----------
    ins, outs : int
        Channels.
    stride, size : int
    """

    def __init__(self, ins: int, outs: int, stride: int = 1, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(ins, outs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outs, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )

    def fold(self) -> None:
        """Make the norm a part of the convolution; only in eval mode."""
        convolution, norm, _ = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        self[0], self[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


class Residual(nn.Module):
    """Two convolutions whose result is added to their input.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        return self.act(x + self.norm(self.second(self.first(x))))

    def fold(self) -> None:
        """Make the second norm a part of its convolution; only in eval mode."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.second = fuse_conv_bn_eval(self.second, self.norm)
        self.norm = nn.Identity()
