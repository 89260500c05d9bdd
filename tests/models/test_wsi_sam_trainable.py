"""What of WSI-SAM learns, and from what: 50 tensors, by the token's masks of both windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.trained import build_trainable
from napari_histosam.models.wsi_sam.loss import enlarged, loss
from napari_histosam.models.wsi_sam.trainable import _in_window
from napari_histosam.train.small.prompting import Asked

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry


def test_gradients_reach_what_is_added_alone_and_the_coarse_window_counts(
    registry: ModelRegistry, wsi_files: list[Path]
) -> None:
    model = build_trainable(registry, registry.import_files(wsi_files, "mine").name, "decoder")
    generator = torch.Generator().manual_seed(0)
    shapes = {"embedding": (1, 256, 64, 64), "early": (1, 160, 64, 64)}
    features = {
        f"{window}_{name}": torch.randn(shape, generator=generator)
        for window in ("fine", "coarse")
        for name, shape in shapes.items()
    }
    truth, around = torch.zeros(2, 1, 512, 512, dtype=torch.bool)
    truth[:, 100:300, 100:300] = True
    around[:, 180:280, 180:280] = True
    asked = Asked(truth[0].numpy(), box=np.array([98.0, 99, 302, 303]))
    (place,) = model.places(_in_window(asked), None, (1024, 1024))
    (answers,) = model.decode(features, [0], [place], [asked])
    areas, clear = truth.sum((1, 2)), torch.tensor([False])
    judged = model.loss(answers, truth, areas, clear, around[:, None])
    # Upstream's loss leaves SAM's own mask out, which the answer holds.
    token = enlarged(answers.logits[:, 0] - answers.more["plain"], (512, 512))
    coarse = enlarged(answers.more["coarse"], (512, 512))
    torch.testing.assert_close(judged.total, loss(token, coarse, truth, around))
    elsewhere = model.loss(answers, truth, areas, clear, ~around[:, None])
    assert not torch.equal(judged.total, elsewhere.total)
    judged.total.sum().backward()
    named = dict(model.module.named_parameters())
    reached = {name for name, part in named.items() if part.grad is not None}
    assert len(reached) == 50
    assert {name.replace(".", "/", 1) for name in reached} == set(model.state())
    assert all(part.grad.abs().sum() > 0 for name, part in named.items() if name in reached)
