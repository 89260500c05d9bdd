"""Gives objects of a batch correcting clicks, on a network's own answers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import nn

from napari_histosam.train.small.prompting import CORRECTIONS, batch_of, correct

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from napari_histosam.models.small.encoder import Features
    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.batches import Batch
    from napari_histosam.train.small.prompting import Asked

_BLURRED = 0.3


def precision(device: str, half: bool) -> AbstractContextManager[Any]:
    """Return what to compute in: bfloat16 where autocast allows, or plain float32."""
    return torch.autocast(device.split(":")[0], torch.bfloat16) if half else nullcontext()


@torch.no_grad()
def simulate(
    net: SmallNet,
    batch: Batch,
    features: Features,
    rng: np.random.Generator,
    half: bool,
) -> None:
    """Give each object as many correcting clicks as it is to have.

    Parameters
    ----------
    net : SmallNet
        In eval mode.
    batch : Batch
        Its ``asked`` get clicks and earlier masks.
    features : Features
        Of the batch's crops.
    rng : numpy Generator
        Says where in the largest error clicks lie; and an earlier mask is blurred now and then, as
        if it came from a coarser scale.
    half : bool
        See `precision`.
    """
    device = features.half.device
    with precision(str(device), half):
        for turn in range(CORRECTIONS):
            rows = [i for i, one in enumerate(batch.asked) if one.corrections > turn]
            if not rows:
                return
            asked = [batch.asked[i] for i in rows]
            of = batch.of[torch.tensor(rows)].to(device)
            masks, previous = _answer(net, features.pick(of), asked)
            for one, mask, before in zip(asked, masks, previous, strict=True):
                if correct(one, mask, rng):
                    one.previous = _blurred(before, rng)


def _answer(net: SmallNet, features: Features, asked: list[Asked]) -> tuple[np.ndarray, np.ndarray]:
    logits, scores = net.decode(features, batch_of(asked, str(features.half.device)))
    best = scores.argmax(1)
    # What a user corrects is the mask shown first: of one click, the one that scores best.
    shown = torch.tensor([one.ambiguous for one in asked], device=best.device)
    rows = torch.arange(len(asked), device=best.device)
    chosen = logits[rows, torch.where(shown, best, 0)].float()
    full = nn.functional.interpolate(chosen[:, None], scale_factor=2.0, mode="bilinear")[:, 0]
    return (full > 0).cpu().numpy(), chosen.sigmoid().cpu().numpy()


def _blurred(probable: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= _BLURRED:
        return probable
    h, w = probable.shape
    return np.asarray(cv2.resize(cv2.resize(probable, (w // 2, h // 2)), (w, h)))
