"""A SAM to be trained from nothing: the bundled encoder, and random weights behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_histosam.models.sam.build import build_mask_decoder, build_prompt_encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def fresh_sam(small: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Return the weights of a SAM of the variant ``"bundled"`` under SAM's names.

    Parameters
    ----------
    small : mapping of str to Tensor
        The weights of `histosam-small`.
    seed : int
        Of everything random.
    """
    from napari_histosam.models.sam.bundled import fresh_encoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "image_encoder": fresh_encoder(small, seed),
            "prompt_encoder": build_prompt_encoder(),
            "mask_decoder": build_mask_decoder(),
        }
    return {
        f"{part}.{name}": value.detach()
        for part, net in parts.items()
        for name, value in net.state_dict().items()
    }
