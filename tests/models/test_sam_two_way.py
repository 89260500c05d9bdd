"""The decoder as it is trained gives what segment-anything's gives: masks, scores, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from napari_histosam.models.sam.decode import answers
from napari_histosam.models.sam.prompts import PromptBatch

SIDE = 8


class Prompts(torch.nn.Module):
    """Stands in for the prompt encoder: tokens and a map for each object, and positions."""

    def __init__(self, sparse: torch.Tensor, dense: torch.Tensor, places: torch.Tensor) -> None:
        super().__init__()
        self.made, self.places = (sparse, dense), places

    def forward(self, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.made

    def get_dense_pe(self) -> torch.Tensor:
        return self.places


def own(sam: Any, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ask segment-anything's decoder for one object after the other."""
    sparse, dense = sam.prompt_encoder.made
    found = [
        sam.mask_decoder.predict_masks(
            embedding[i : i + 1], sam.prompt_encoder.places, sparse[i : i + 1], dense[i : i + 1]
        )
        for i in range(len(embedding))
    ]
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


@pytest.mark.parametrize("tokens", [1, 2, 12])
def test_masks_scores_and_gradients_are_segment_anything_s(tokens: int) -> None:
    torch.manual_seed(tokens)
    decoder = MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=64),
    )
    with torch.no_grad():
        for part in decoder.parameters():  # biases that say something, too
            part.add_(0.05 * torch.randn_like(part))
    n = 3
    sam: Any = torch.nn.Module()
    sam.mask_decoder = decoder
    maps = torch.randn(n, 256, SIDE, SIDE), torch.randn(1, 256, SIDE, SIDE)
    sam.prompt_encoder = Prompts(torch.randn(n, tokens, 256), *maps)
    embedding = torch.randn(n, 256, SIDE, SIDE, requires_grad=True)
    made = []
    for ask in (own, lambda s, e: answers(s, e, PromptBatch((0, 1, 2), None, None, None))):
        masks, scores = ask(sam, embedding)
        (masks.sigmoid().square().mean() + scores.square().mean()).backward()
        gradients = {
            name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None
        }
        made.append((masks.detach(), scores.detach(), embedding.grad.clone(), gradients))
        decoder.zero_grad(set_to_none=True)
        embedding.grad = None
    (masks, scores, back, gradients), (masks_, scores_, back_, gradients_) = made
    assert masks.shape == (n, 4, 4 * SIDE, 4 * SIDE)
    torch.testing.assert_close(masks_, masks, atol=1e-4 * float(masks.abs().max()), rtol=1e-4)
    torch.testing.assert_close(scores_, scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(back_, back, atol=1e-4 * float(back.abs().max()), rtol=1e-3)
    # Softmax does not see the bias of keys that are the same everywhere.
    unseen = {name for name in gradients if name.endswith("token_to_image.k_proj.bias")}
    assert set(gradients) - set(gradients_) == unseen
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name in unseen:
        assert gradients[name].abs().max() < 1e-5 * largest
    for name, value in gradients_.items():
        if name.endswith("k_proj.bias"):
            continue  # unseen elsewhere, too: nothing but rounding
        scale = max(float(gradients[name].abs().max()), 1e-6 * largest)
        torch.testing.assert_close(value, gradients[name], atol=1e-3 * scale, rtol=1e-3, msg=name)
