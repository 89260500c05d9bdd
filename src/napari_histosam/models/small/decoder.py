"""The prompt half of the bundled network: cached features and prompt maps to masks and scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_histosam.models.small.encoder import CHANNELS, Features
from napari_histosam.models.small.layers import ConvNorm, Residual
from napari_histosam.models.small.prompt_maps import EARLIER, MAPS

MASKS = 3
"""Masks per object: the best guess, and two that may each be right where a click is ambiguous."""

_AT4, _AT8, _AT16, _AT2 = 48, 80, 128, 24
_STATISTICS = 5
DESCRIBED = 2 * _AT4 + _AT16 + _STATISTICS + MAPS
"""Numbers that describe one mask: features in it and around it, its shape, the prompts."""


class Decoder(nn.Module):
    """A U-Net over a crop of the features (Ronneberger et al. 2015, arXiv 1505.04597)."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = CHANNELS
        self.in4 = ConvNorm(quarter + 4 * MAPS + 2, _AT4)
        self.in8 = ConvNorm(_AT4, _AT8, stride=2)
        self.join8 = ConvNorm(_AT8 + eighth, _AT8)
        self.block8 = Residual(_AT8)
        self.in16 = ConvNorm(_AT8, _AT16, stride=2)
        self.join16 = ConvNorm(_AT16 + sixteenth, _AT16)
        self.block16 = Residual(_AT16)
        self.up8 = ConvNorm(_AT16 + _AT8, _AT8)
        self.up4 = ConvNorm(_AT8 + _AT4, _AT4)
        self.last4 = Residual(_AT4)
        self.down2 = ConvNorm(_AT4, _AT2, size=1)
        self.up2 = ConvNorm(_AT2 + half + MAPS, _AT2)
        self.last2 = ConvNorm(_AT2, _AT2)
        self.masks = nn.Conv2d(_AT2, MASKS, 3, 1, 1)
        # How much an earlier mask speaks for itself: a correction should change what is near it.
        self.keep = nn.Parameter(torch.full((MASKS, 1, 1), 2.0))
        nn.init.constant_(self.masks.bias, -1.0)  # type: ignore[arg-type]
        self.score = nn.Sequential(
            nn.Linear(DESCRIBED, 96),
            nn.SiLU(inplace=True),
            nn.Linear(96, 48),
            nn.SiLU(inplace=True),
            nn.Linear(48, 1),
        )

    def forward(self, features: Features, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Parameters
        ----------
        features : Features
            Of the crops, one row for each object.
        maps : (n, MAPS, h / 2, w / 2) float tensor
            From `napari_histosam.models.small.prompt_maps.draw`.

        Returns
        -------
        logits : (n, MASKS, h / 2, w / 2) tensor
        described : (n, MASKS, DESCRIBED) float32 tensor
            What can be said of each mask, for `score` and for a comparison with others.
        """
        alike = _alikeness(features.quarter, maps)
        maps = maps.to(features.half.dtype)
        packed = functional.pixel_unshuffle(maps, 2)
        x4 = self.in4(torch.cat([features.quarter, packed, alike], 1))
        x8 = self.block8(self.join8(torch.cat([self.in8(x4), features.eighth], 1)))
        x16 = self.join16(torch.cat([self.in16(x8), features.sixteenth], 1))
        x16 = self.block16(x16)
        x8 = self.up8(torch.cat([_enlarged(x16), x8], 1))
        x4 = self.last4(self.up4(torch.cat([_enlarged(x8), x4], 1)))
        x2 = torch.cat([_enlarged(self.down2(x4)), features.half, maps], 1)
        logits = self.masks(self.last2(self.up2(x2))) + self.keep * maps[:, EARLIER, None]
        return logits, _described(logits, x4, x16, maps)


def _described(logits: Tensor, x4: Tensor, x16: Tensor, maps: Tensor) -> Tensor:
    n = len(logits)
    probable = logits.detach().float().sigmoid()
    coarse = functional.avg_pool2d(probable, 2)
    inside = _pooled(x4, coarse)
    around = functional.max_pool2d(coarse, 7, 1, 3) - coarse
    outside = _pooled(x4, around)
    area = probable.sum((2, 3))
    doubt = (probable * (1 - probable)).sum((2, 3))
    edge = (probable[:, :, [0, -1]].sum((2, 3)) + probable[..., [0, -1]].sum((2, 3))) / 8
    steep = doubt / area.clamp(min=1).sqrt()
    statistics = [
        (area + 1).log() / 8,
        doubt / area.clamp(min=1) * 4,
        steep,
        edge / area.clamp(min=1).sqrt(),
        probable.amax((2, 3)),
    ]
    shared = torch.cat([x16.float().mean((2, 3)), maps.float().mean((2, 3)) * 8], 1)
    return torch.cat(
        [
            inside,
            outside,
            shared[:, None].expand(n, MASKS, -1),
            torch.stack(statistics, 2),
        ],
        2,
    )


def _alikeness(quarter: Tensor, maps: Tensor) -> Tensor:
    """Return how alike each place's features are to those under the positive and negative prompts.

    Returns
    -------
    (n, 2, h / 4, w / 4) tensor
        Cosines; 0 where there is no such prompt.
    """
    small = functional.avg_pool2d(maps.float(), 2)
    positive = small[:, 0] + small[:, 4].clamp(min=0) ** 2 + small[:, 5].clamp(min=0)
    negative = small[:, 2] + (-small[:, 4]).clamp(min=0) + (-small[:, 5]).clamp(min=0)
    weights = torch.stack([positive, negative], 1).flatten(2)
    there = weights.amax(2, keepdim=True) > 1e-3
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
    flat = functional.normalize(quarter.float().flatten(2), dim=1)
    means = functional.normalize(torch.einsum("ncp,nkp->nkc", flat, weights), dim=2)
    cosines = torch.einsum("nkc,ncp->nkp", means, flat) * there
    return cosines.unflatten(2, quarter.shape[2:]).to(quarter.dtype)


def _pooled(x: Tensor, weights: Tensor) -> Tensor:
    """Return the means (n, m, c) of x (n, c, h, w) under the weights (n, m, h, w)."""
    flat = weights.flatten(2)
    sums = torch.einsum("ncp,nmp->nmc", x.float().flatten(2), flat)
    return sums / flat.sum(2, keepdim=True).clamp(min=1.0)


def _enlarged(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
