"""DES-SAM as it is trained: what learns, from which losses, and what comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.des_sam import trainable as module
from napari_histosam.models.des_sam.trainable import DesSamTrainable, _cells, _without_unknown
from napari_histosam.models.families import family
from napari_histosam.models.trained import methods_of, plain_state, weights_of
from napari_histosam.models.window_trainable import (
    UNNAMED,
    Look,
    WindowTrainable,
    WindowTruth,
    learns_windows,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

SIDE = 128
BOXES = np.array([[20, 24, 60, 60], [70, 64, 110, 100.0]])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, des_sam_file: Path) -> ModelRegistry:
    from napari_histosam.models.registry import ModelRegistry

    made = ModelRegistry(tmp_path_factory.mktemp("trainable"), offline_dirs=[])
    made.import_file(des_sam_file)
    return made


@pytest.fixture(scope="module")
def model(known: ModelRegistry) -> DesSamTrainable:
    torch.manual_seed(0)
    card = replace(known.get("des-sam"), classes=("Immune", "Tumour"))
    made: Any = family("des-sam")
    found = made.trainable(card, weights_of(known, "des-sam"), "decoder")
    assert isinstance(found, DesSamTrainable)
    return found


def test_it_is_a_window_trainable(known: ModelRegistry, model: DesSamTrainable) -> None:
    assert isinstance(model, WindowTrainable)
    card = known.get("des-sam")
    assert learns_windows(card)
    assert methods_of(card) == ("decoder",)
    with pytest.raises(InputError, match="'lora': choose decoder"):
        DesSamTrainable(card, model.module, "lora")
    learns = {n.split(".")[0] for n, p in model.module.named_parameters() if p.requires_grad}
    assert learns == {"neck", "rpn", "box_head", "learned_prompt"}


def test_more_classes_begin_as_what_was_known(known: ModelRegistry, model: DesSamTrainable) -> None:
    base = weights_of(known, "des-sam")
    state = plain_state(base, model.state())
    name = "roi_head.bbox_head.fc_cls"
    before, after = (
        torch.cat([s[f"{name}.weight"], s[f"{name}.bias"][:, None]], 1) for s in (base, state)
    )
    hidden = torch.cat([torch.rand(5, 1024), torch.ones(5, 1)], 1)
    chances = [(hidden @ rows.T).softmax(1) for rows in (before, after)]
    torch.testing.assert_close(chances[0][:, -1], chances[1][:, -1])
    torch.testing.assert_close(chances[1][:, 0], chances[1][:, 1])


@pytest.mark.slow
def test_a_step_lowers_the_loss_and_changes_only_what_learns(
    model: DesSamTrainable, he_image: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REGIONS", 24)
    # The same proposals both times: else other regions are looked at, and losses say nothing.
    square = torch.from_numpy(BOXES * 8).float()
    near = torch.cat([square + 12, square - 20, square.roll(1, 0) * 0.4])
    monkeypatch.setattr(model.module.rpn, "proposals", lambda *_: (near, None))
    outline = np.zeros((SIDE, SIDE), bool)
    outline[64:100, 70:110] = True
    truth = WindowTruth(BOXES, np.array([1, UNNAMED]), [None, outline])
    inputs = model.prepare(he_image(SIDE, SIDE, 3))
    kept = model.encode(inputs, truth)
    assert kept["embedding"].shape == (256, 64, 64)
    assert kept["teacher"].shape == (2, 256 * 256 // 8)
    frozen = model.module.student.state_dict()["iou_token.weight"].clone()
    start = model.state()
    optimiser = model.optimiser(1e-5)
    model.teach(True)
    totals, names = [], set()
    for turn in range(2):
        torch.manual_seed(3)
        total = 0.0
        with torch.set_grad_enabled(turn == 0):
            for part in model.losses([Look(inputs, kept, truth)]):
                names |= set(part)
                loss = torch.stack(list(part.values())).sum()
                assert torch.isfinite(loss)
                if turn == 0:
                    loss.backward()
                total += float(loss.detach())
        totals.append(total)
        if turn == 0:
            optimiser.step()
    model.teach(False)
    assert totals[1] < totals[0]
    assert names == {
        "loss_rpn_cls",
        "loss_rpn_bbox",
        "loss_cls",
        "loss_bbox",
        "mask_bce_loss",
        "mask_dice_loss",
        "loss_local_pairwise",
        "loss_global_pairwise",
    }
    now = model.state()
    moved = {name.split(".")[0] for name in now if not torch.equal(now[name], start[name])}
    assert moved == {"neck", "rpn_head", "roi_head"}
    token = "roi_head.mask_head.learned_prompt.weight"
    assert not torch.equal(now[token], start[token])
    assert torch.equal(model.module.student.state_dict()["iou_token.weight"], frozen)
    model.restore(start)
    torch.testing.assert_close(model.state(), start)


def test_an_outline_on_the_cells_of_the_square() -> None:
    from napari_histosam.models.des_sam.frame import Square

    mask = np.zeros((100, 200), bool)
    mask[20:60, 40:120] = True
    cells = _cells(mask, Square((200, 100)))
    assert cells.shape == (256, 256)
    rows, columns = np.nonzero(cells)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
        np.array([40, 20, 120, 60]) * 1.28,
        atol=1,
    )


def test_background_in_unknown_parts_teaches_nothing() -> None:
    unknown = torch.zeros(1024, 1024, dtype=torch.bool)
    unknown[:100] = True
    boxes = torch.tensor([[0, 0, 50, 50], [0, 200, 50, 250], [0, 0, 60, 60.0]])
    of = torch.tensor([0, 0, 2])
    assert _without_unknown(of, boxes, unknown).tolist() == [-1, 0, 2]
    assert _without_unknown(of, boxes, None) is of
