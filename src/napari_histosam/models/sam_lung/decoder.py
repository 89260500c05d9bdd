"""SAM-Lung's decoder: features pooled over ever larger parts of the picture, and a classifier.

Pyramid pooling: Zhao et al. 2017, arXiv 1612.01105. Attention in each branch: Woo et al. 2018,
CBAM, arXiv 1807.06521, with the kernel that SAM-Lung has. Names are those of SAM-Lung's files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, WIDTH = 256, 64
BINS = (1, 2, 3, 6)
DROPOUT = 0.1
_REDUCTION = 16


class SafeBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that can learn from a single picture.

    The branch that sees the picture as a whole has one value per channel and picture. Of one
    picture there is nothing to take the mean of: the running statistics are used, and kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)


class ChannelAttention(nn.Module):
    """Weighs channels by what their mean and their maximum say."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(CHANNELS, CHANNELS // _REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(CHANNELS // _REDUCTION, CHANNELS, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 256, h, w) to the same shape."""
        told = [
            self.fc2(self.fc1(pool(x, 1)).relu())
            for pool in (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d)
        ]
        return x * (told[0] + told[1]).sigmoid()


class SpatialAttention(nn.Module):
    """Weighs places by the mean and the maximum over channels around them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 256, h, w) to the same shape."""
        told = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        out: Tensor = x * self.conv1(told).sigmoid()
        return out


class Cbam(nn.Module):
    """Attention over channels, then over places."""

    def __init__(self) -> None:
        super().__init__()
        self.channel_att = ChannelAttention()
        self.spatial_att = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 256, h, w) to the same shape."""
        out: Tensor = self.spatial_att(self.channel_att(x))
        return out


class PyramidPooling(nn.Module):
    """The features beside their pooled versions, mixed to 64 channels.

    Parameters
    ----------
    cbam : bool
        Weigh the pooled features by attention.
    """

    def __init__(self, cbam: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(size),
                *([Cbam()] if cbam else []),
                nn.Conv2d(CHANNELS, WIDTH, 1, bias=False),
                SafeBatchNorm2d(WIDTH),
                nn.ReLU(),
            )
            for size in BINS
        )
        self.bottleneck = nn.Sequential(
            nn.Conv2d(CHANNELS + len(BINS) * WIDTH, WIDTH, 1),
            SafeBatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Dropout2d(DROPOUT),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 256, h, w) to (n, 64, h, w)."""
        pooled = [_enlarged(stage(x), x.shape[-2:]) for stage in self.stages]
        out: Tensor = self.bottleneck(torch.cat([x, *pooled], 1))
        return out


class PyramidDecoder(nn.Module):
    """Logits of classes from an embedding.

    Parameters
    ----------
    outputs : int
        Classes, what is none of them included, which is the first.
    cbam : bool
        See `PyramidPooling`. The authors' release leaves it out, their figure has it.
    """

    def __init__(self, outputs: int = 2, *, cbam: bool = True) -> None:
        super().__init__()
        self.psp_module = PyramidPooling(cbam)
        self.classifier = nn.Conv2d(WIDTH, outputs, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def low(self, embedding: Tensor) -> Tensor:
        """Return logits (n, outputs, h, w) of an embedding (n, 256, h, w)."""
        out: Tensor = self.classifier(self.psp_module(embedding))
        return out

    def forward(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """Return logits (n, outputs, height, width), enlarged to ``size``."""
        return _enlarged(self.low(embedding), size)


def _enlarged(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
