"""Teaches a trained network what its masks are worth: the predicted IoU, and nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from napari_histosam.train.small.loss import ious
from napari_histosam.train.small.prompting import batch_of
from napari_histosam.train.small.simulation import precision, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.batches import Batch

_RATE = 2e-3


def fit_scores(net: SmallNet, batches: Iterable[Batch], steps: int, half: bool) -> dict[str, float]:
    """Train the score head alone; all other weights stay.

    During training the crops are harder than what a user looks at, so that scores come out too low
    and hardly tell a scale that suits an object from one that does not. Here crops are plain and
    objects of every size, as the scales of a window show them.

    Parameters
    ----------
    net : SmallNet
        Changed in place.
    batches : iterable of Batch
        Plain ones, see `napari_histosam.train.small.batches.Batches`.
    steps : int
        How many there are.
    half : bool
        Compute in bfloat16 where autocast allows.

    Returns
    -------
    dict
        ``score_error`` and ``train_iou`` (of the first mask), means over the second half; and the
        losses, of which the masks' is 0.
    """
    net.eval()
    net.requires_grad_(False)
    head = net.decoder.score.requires_grad_(True)
    optimiser = torch.optim.Adam(head.parameters(), _RATE)
    device = next(head.parameters()).device
    sums = np.zeros(3)
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
        pixels = batch.pixels.to(device, memory_format=torch.channels_last)
        simulate(net, batch, pixels, None, half)
        truth = torch.from_numpy(np.stack([one.truth for one in batch.asked])).to(device)
        with precision(str(device), half):
            features = net.encode(pixels).pick(batch.of.to(device))
            logits, scores = net.decode(features, batch_of(batch.asked, str(device)))
        full = functional.interpolate(logits.float(), scale_factor=2.0, mode="bilinear")
        iou = ious(full > 0, truth, batch.areas.to(device))
        # Only the first mask is shown where more than one click is known.
        clear = torch.tensor([not one.ambiguous for one in batch.asked], device=device)
        weight = torch.ones_like(iou)
        weight[clear, 1:] = 0
        loss = functional.binary_cross_entropy_with_logits(scores.float(), iou, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 2.0)
        optimiser.step()
        if step >= steps // 2:
            error = ((scores.float().sigmoid() - iou).abs() * weight).sum() / weight.sum()
            sums += [float(loss.detach()), float(error.detach()), float(iou[:, 0].mean())]
    net.requires_grad_(False)
    loss_mean, error_mean, iou_mean = (float(s) / max(steps - steps // 2, 1) for s in sums)
    return {
        "loss": loss_mean,
        "mask_loss": 0.0,
        "score_error": error_mean,
        "train_iou": iou_mean,
    }
