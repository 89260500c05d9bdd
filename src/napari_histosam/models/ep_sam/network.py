"""EP-SAM as a network: a classifier of patches beside a plain SAM that gets points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_histosam.models.ep_sam.cam import TURNS, Heat, turned
from napari_histosam.models.ep_sam.frame import classifier_input
from napari_histosam.models.sam.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.ep_sam.classifier import PatchClassifier


class EpSam(nn.Module):
    """Classifier and SAM.

    Parameters
    ----------
    classifier : PatchClassifier
    sam : Sam
    """

    def __init__(self, classifier: PatchClassifier, sam: Sam) -> None:
        super().__init__()
        self.classifier = classifier
        self.sam = sam

    def judged(
        self, patch: NDArray[np.uint8], least: float = -math.inf
    ) -> tuple[float, Heat | None]:
        """Return the logit that a patch holds tumour, and its heat map.

        Parameters
        ----------
        patch : (h, w, 3) uint8 array
            In the networks' channel order.
        least : float
            The logit below which no heat map is made, which saves three of four passes.
        """
        net = self.classifier
        device = net.fc.weight.device
        logit, raw = 0.0, []
        for turn in TURNS:
            seen = net.features(classifier_input(turned(patch, turn))[None].to(device))
            if turn == 0:
                logit = float(net.judged(seen))
                if logit < least:
                    return logit, None
            raw.append(net.heat(seen)[0].float().cpu().numpy())
        return logit, Heat.of(raw, (patch.shape[0], patch.shape[1]))

    def embedded(self, patch: NDArray[np.uint8]) -> Tensor:
        """Return SAM's embedding (1, 256, 64, 64) of a patch; see `judged`."""
        pixels = Frame((patch.shape[1], patch.shape[0])).image(patch)
        device = self.sam.mask_decoder.iou_token.weight.device
        out: Tensor = self.sam.image_encoder(pixels.to(device))
        return out

    def masked(self, embedding: Tensor, points: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Return the mask of positive points; differentiable.

        Parameters
        ----------
        embedding : (1, 256, 64, 64) tensor
        points : (k, 2) float32 array
            As SAM gets them, see `Recipe.at`; at least one.

        Returns
        -------
        logits : (256, 256) tensor
            Over SAM's square.
        score : () tensor
            SAM's own estimate of the IoU. It learns nothing of this task: not to be shown.
        """
        at = torch.from_numpy(points)[None].to(embedding.device)
        labels = torch.ones(at.shape[:2], dtype=torch.int, device=embedding.device)
        sparse, dense = self.sam.prompt_encoder((at, labels), None, None)
        low, score = self.sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return low[0, 0], score[0, 0]


def over_patch(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge logits (k, 256, 256) over SAM's square to a patch: (k, height, width)."""
    return Frame(size[::-1]).window_logits(logits)
