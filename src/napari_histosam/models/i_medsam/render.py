"""Draws an object on any grid, in a part of it, in pieces: the cost is that of the part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from napari_histosam.models.i_medsam.field import PASSES, RATIO, energy, most, sampled

if TYPE_CHECKING:
    from torch import Tensor

    from napari_histosam.models.i_medsam.field import ImplicitField
    from napari_histosam.models.i_medsam.points import Sampler

Refine = Literal["energy", "none", "all", "mc"]
# Points per step: 67 MB for the widest layer.
CHUNK = 1 << 14


@dataclass(frozen=True)
class Drawn:
    """An object on a region of a grid.

    Parameters
    ----------
    coarse : (h, w) tensor
        Logits of the coarse network.
    logits : (h, w) tensor
        With the fine network's where it was asked.
    energy : (h, w) tensor
        What decided where: the features' mean square, which upstream's dropout makes the expected
        variance of, or that of the passes drawn. It is no predictive uncertainty.
    """

    coarse: Tensor
    logits: Tensor
    energy: Tensor


def draw(
    field: ImplicitField,
    sampler: Sampler,
    *,
    refine: Refine = "energy",
    chosen: Tensor | None = None,
    which: int = 0,
    ratio: float = RATIO,
    chunk: int = CHUNK,
    passes: int = PASSES,
    seed: int = 0,
) -> Drawn:
    """Draw one object.

    Parameters
    ----------
    field : ImplicitField
        In eval mode: its norms are fixed then, so that points do not depend on each other.
    sampler : Sampler
        Of the region.
    refine : {"energy", "none", "all", "mc"}
        Which points the fine network answers: those of highest energy in the region, none, all,
        or those that vary most over passes with dropout. Such passes choose points and do nothing
        else: logits and features are those without dropout.
    chosen : (k,) int tensor, optional
        The points instead, row-major in the region.
    which : int
        The head.
    ratio : float
        Share of the region's points for ``"energy"`` and ``"mc"``.
    chunk : int
        Points per step.
    passes, seed : int
        For ``"mc"``: how many passes are drawn, and from what.
    """
    height, width = sampler.region.size
    step = max(chunk // max(width, 1), 1)
    starts = range(0, height, step)
    logits, energies, fine = [], [], []
    generator = torch.Generator().manual_seed(seed)
    for first in starts:
        inputs = sampler.rows(first, min(first + step, height))
        found = field.coarse(inputs, which)
        logits.append(found[:, 0])
        energies.append(sampled(found, generator, passes) if refine == "mc" else energy(found))
        if refine == "all" and chosen is None:
            fine.append(field.fine(inputs, found[:, 1:], which))
    coarse, all_energy = torch.cat(logits), torch.cat(energies)
    final = coarse
    if chosen is None and refine in ("energy", "mc"):
        chosen = most(all_energy, int(ratio * len(coarse)))
    if chosen is not None and len(chosen):
        final = coarse.clone()
        picked = torch.zeros(len(coarse), dtype=torch.bool, device=coarse.device)
        picked[chosen.to(coarse.device)] = True
        for first in starts:
            last = min(first + step, height)
            here = picked[first * width : last * width].nonzero()[:, 0]
            if len(here):
                # Features are made again: keeping them takes 1 kB per point.
                inputs = sampler.rows(first, last)[here]
                found = field.coarse(inputs, which)
                final[first * width + here] = field.fine(inputs, found[:, 1:], which)
    elif fine:
        final = torch.cat(fine)
    shape = (height, width)
    return Drawn(coarse.reshape(shape), final.reshape(shape), all_energy.reshape(shape))
