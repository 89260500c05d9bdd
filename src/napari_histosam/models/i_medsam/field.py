"""The implicit networks: a coarse one for every point, a fine one for those that need it."""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor, nn

POINT = 351
FEATURES = 256
# Share of the points that the fine network answers, and of the columns that dropout zeroes.
RATIO = 0.125
DROP = 0.5
# Passes with dropout that upstream compares.
PASSES = 2


class ImplicitField(nn.Module):
    """Logits as a function of place; modules in the order in which upstream keeps them.

    Parameters
    ----------
    classes : int
        Output heads; prompts choose one.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        coarse_heads = [nn.Sequential(nn.Linear(512, 1 + FEATURES)) for _ in range(classes)]
        fine_heads = [
            nn.Sequential(nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 1))
            for _ in range(classes)
        ]
        self.seg_net = nn.ModuleList(
            [
                _trunk(POINT, 1024, 512),
                _trunk(POINT + FEATURES, 256, 256),
                nn.ModuleList(coarse_heads),
                nn.ModuleList(fine_heads),
            ]
        )

    @property
    def classes(self) -> int:
        """How many heads there are."""
        heads: Any = self.seg_net[2]
        return len(heads)

    def coarse(self, inputs: Tensor, which: int = 0) -> Tensor:
        """Return logit and features, (n, 257), of points (n, 351), before any dropout."""
        heads: Any = self.seg_net[2]
        out: Tensor = heads[which](self.seg_net[0](inputs))
        return out

    def fine(self, inputs: Tensor, features: Tensor, which: int = 0) -> Tensor:
        """Return logits (n,) of points (n, 351) with their features (n, 256)."""
        trunk = self.seg_net[1](torch.cat([inputs, features], 1))
        heads: Any = self.seg_net[3]
        out: Tensor = heads[which](trunk)[:, 0]
        return out

    def twice(
        self, inputs: Tensor, keep: tuple[Tensor, Tensor], which: int = 0, ratio: float = RATIO
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Answer points by two passes with dropout, as upstream trains.

        Parameters
        ----------
        inputs : (n, 351) tensor
        keep : tuple of two (n, 257) bool tensors
            What each pass keeps; the second gives logits and features.
        which : int
        ratio : float
            Share of the points that are refined.

        Returns
        -------
        coarse, final : (n,) tensor
            Logits before and after the fine network's answers are put in.
        variance : (n,) tensor
            Of the two passes, the mean over the columns.
        chosen : (k,) tensor of int
            The refined points.
        """
        passes = [self.coarse(inputs, which) * mask / (1 - DROP) for mask in keep]
        variance = torch.stack(passes).var(0).mean(1)
        chosen = most(variance, int(ratio * len(inputs)))
        coarse, features = passes[1][:, 0], passes[1][:, 1:]
        final = coarse
        if len(chosen):
            fine = self.fine(inputs[chosen], features[chosen], which)
            final = coarse.index_copy(0, chosen, fine)
        return coarse, final, variance, chosen


class FieldDecoder(MaskDecoder):
    """SAM's mask decoder, of which the image side is used, with the implicit networks behind it."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        self.seg_field = ImplicitField(classes)

    def transformed(
        self, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
    ) -> Tensor:
        """Return the image side of the transformer, (b, t * t, 256); see `upscaled`."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        b = sparse.shape[0]
        tokens = torch.cat([own.expand(b, -1, -1), sparse], 1)
        _, source = self.transformer(embedding + dense, positions.expand(b, -1, -1, -1), tokens)
        out: Tensor = source
        return out

    def upscaled(
        self, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
    ) -> Tensor:
        """Return what the implicit networks see of b objects: (b, 32, 4 t, 4 t).

        Parameters
        ----------
        embedding : (1 or b, 256, t, t) tensor
            Of one image, or of the image of each object.
        positions : (1, 256, t, t) tensor
        sparse, dense : tensor
            Of the prompt encoder, b rows.
        """
        source = self.transformed(embedding, positions, sparse, dense)
        grid = source.transpose(1, 2).reshape(len(source), -1, *embedding.shape[2:])
        out: Tensor = self.output_upscaling(grid)
        return out


def energy(coarse: Tensor) -> Tensor:
    """Return the expected variance (n,) of dropout passes over coarse outputs (n, 257).

    Dropout is the last step and linear, so the expectation of the variance of a column o is
    o^2 p / (1 - p): no passes need to be drawn.
    """
    return coarse.square().mean(1) * (DROP / (1 - DROP))


def sampled(coarse: Tensor, generator: torch.Generator, passes: int = PASSES) -> Tensor:
    """Return the variance (n,) of dropout passes that are drawn; its mean is `energy`.

    Parameters
    ----------
    coarse : (n, 257) tensor
        Without dropout.
    generator : torch.Generator
        On the CPU, so that every device draws the same. Numbers are taken point by point: points
        that come in several parts, in their order, get what they would get together.
    passes : int
        2 or more. Where k of T keep a column o, its unbiased variance over them is
        (o / (1 - p))^2 k (T - k) / (T (T - 1)).
    """
    drawn = torch.rand(len(coarse), passes, coarse.shape[1], generator=generator)
    kept = (drawn >= DROP).sum(1).to(coarse)
    share = kept * (passes - kept) / (passes * (passes - 1))
    return (coarse.square() * share).mean(1) / (1 - DROP) ** 2


def most(values: Tensor, count: int) -> Tensor:
    """Return the indices of the largest values, those of lower index first where they are equal.

    So the choice does not depend on the device, as that of ``topk`` does.
    """
    return torch.sort(values, descending=True, stable=True).indices[:count]


def _trunk(wide: int, middle: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(wide, middle),
        nn.BatchNorm1d(middle),
        nn.ReLU(),
        nn.Linear(middle, narrow),
        nn.BatchNorm1d(narrow),
        nn.ReLU(),
    )
