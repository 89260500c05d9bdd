"""SAM's mask decoder for objects of several windows in one call, with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_histosam.models.sam.two_way import masks as upscaled
from napari_histosam.models.sam.two_way import two_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.sam.prompts import PromptBatch
    from napari_histosam.models.trainable import NetPrompts

# Logits beyond these say nothing more; a probability of 0 or 1 would become infinite.
_MOST = 16.0


def answers(
    sam: Sam, embeddings: Tensor, batch: PromptBatch, corner: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor]:
    """Return all four masks of each object and their predicted IoUs.

    segment-anything's own decoder takes many prompts of one image; here each prompt brings the
    embedding of its image, and sums are made in another order, see
    `napari_histosam.models.sam.two_way`.

    Parameters
    ----------
    sam : Sam
    embeddings : (n, 256, 64, 64) tensor
        One row for each object; smaller ones are answered in their part of the square.
    batch : PromptBatch
        n objects, on the network's device.
    corner : tuple of int
        Row and column of SAM's grid of 64 x 64 at which the embeddings begin, where they cover
        only a part of it.

    Returns
    -------
    logits : (n, 4, 256, 256) tensor
    scores : (n, 4) tensor
    """
    sparse, dense = sam.prompt_encoder(batch.points, batch.boxes, batch.masks)
    decoder: Any = sam.mask_decoder
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    n, masks = len(embeddings), len(decoder.mask_tokens.weight)
    tokens = torch.cat([own.expand(n, -1, -1), sparse], 1)
    top, left = corner
    height, width = embeddings.shape[2:]
    rows, columns = slice(top, top + height), slice(left, left + width)
    positions = sam.prompt_encoder.get_dense_pe()[..., rows, columns]
    positions = positions.flatten(2).transpose(1, 2)
    if dense.shape[2:] != embeddings.shape[2:]:  # without a mask it covers the whole square
        dense = dense[..., rows, columns]
    image = (embeddings + dense).flatten(2).transpose(1, 2).contiguous()
    hidden, source = two_way(decoder.transformer, image, positions.contiguous(), tokens)
    mixes = [
        mlp(hidden[:, 1 + number])
        for number, mlp in enumerate(decoder.output_hypernetworks_mlps[:masks])
    ]
    side = embeddings.shape[-1]
    logits = upscaled(decoder.output_upscaling, source, torch.stack(mixes, 1), side)
    return logits, decoder.iou_prediction_head(hidden[:, 0])


def layout(prompts: NetPrompts) -> tuple[int, bool, bool]:
    """Return what must be alike for objects to share a batch: clicks, box, mask."""
    return len(prompts.points), prompts.box is not None, prompts.previous is not None


def gathered(prompts: Sequence[NetPrompts], factor: float, device: str) -> PromptBatch:
    """Return the prompts of objects of one `layout` as SAM's prompt encoder takes them.

    Parameters
    ----------
    prompts : sequence of NetPrompts
    factor : float
        Px of SAM's square per net px.
    device : str
    """
    from napari_histosam.models.sam.prompts import PromptBatch

    count, has_box, has_mask = layout(prompts[0])
    points = boxes = masks = None
    # SAM counts pixel centres as whole numbers and adds the half itself.
    if count:
        at = np.array([one.points for one in prompts], np.float32) * factor - 0.5
        labels = np.array([one.labels for one in prompts], np.int32)
        points = (torch.from_numpy(at).to(device), torch.from_numpy(labels).to(device))
    if has_box:
        corners = np.array([one.box for one in prompts], np.float32) * factor - 0.5
        boxes = torch.from_numpy(corners).to(device)
    if has_mask:
        probable = np.stack([np.asarray(one.previous, np.float32) for one in prompts])
        logits = torch.logit(torch.from_numpy(probable)).clamp(-_MOST, _MOST)
        masks = logits[:, None].to(device)
    return PromptBatch(tuple(range(len(prompts))), points, boxes, masks)
