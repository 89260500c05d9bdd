"""WSI-SAM and I-MedSAM in the window, with weights drawn at random: what they see is framed."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QStyle, QStyleOptionGroupBox

if TYPE_CHECKING:
    from pathlib import Path

NUCLEUS = (1134, 2027)


def drawn(shapes: dict, seed: int) -> dict:
    """Return weights of these shapes."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator) / max(math.prod(shape[1:]), 1) ** 0.5
        out[name] = 1 + 0.1 * x.abs() if name.endswith("running_var") else x
    return out


def wsi_sam(folder: Path) -> list[Path]:
    """Write the three files of WSI-SAM as upstream does."""
    import torch

    from napari_histosam.models.sam.build import build_sam, published_names
    from napari_histosam.models.wsi_sam.decoder import TokenDecoder

    sam = build_sam("vit_t")
    own, decoder = sam.state_dict(), TokenDecoder().state_dict()
    files = [folder / "mobile_sam.pt", folder / "net_high.pth", folder / "net_low.pth"]
    shapes = {name: tuple(own[ours].shape) for name, ours in published_names(sam).items()}
    torch.save(drawn(shapes, 0), files[0])
    for seed, file in enumerate(files[1:], 1):
        state = drawn({name: tuple(value.shape) for name, value in decoder.items()}, seed)
        torch.save({"model": state, "epoch": 1}, file)
    return files


def i_medsam(folder: Path) -> list[Path]:
    """Write the two files of I-MedSAM as upstream does."""
    import torch

    from napari_histosam.models.i_medsam.network import IMedSam, published_names
    from napari_histosam.models.sam import build

    files = [folder / "sam_vit_b_01ec64.pth", folder / "model_best_DSC.pth"]
    sam = build.build_sam("vit_b")
    own = sam.state_dict()
    shapes = {name: tuple(own[ours].shape) for name, ours in build.published_names(sam).items()}
    torch.save(drawn(shapes, 3), files[0])
    net = IMedSam(384)
    own = net.state_dict()
    state = drawn({n: tuple(own[ours].shape) for n, ours in published_names(net).items()}, 4)
    kept = {
        name: torch.nn.Parameter(value) if name.startswith("w_") else value
        for name, value in state.items()
    }
    torch.save({"model": kept, "epoch": 7}, files[1])
    return files


def test_the_box_that_a_click_became_is_seen(open_dock, slide_copy):
    """With the bundled network as a model that takes boxes only."""
    from dataclasses import replace

    from napari_histosam.models.catalog import write_card

    hand = open_dock(slide_copy)
    registry = hand.dock.workbench.registry
    small = registry.get("histosam-small")
    card = replace(small, name="boxer", aliases=(), prompts=("box",), boxes_by=small.name)
    write_card(card, registry.folder / "boxer.json")
    model = hand.dock.annotate.model
    model.refresh()
    model.choice.setCurrentIndex(model.choice.findData("boxer"))
    hand.until(lambda: hand.session.card.name == "boxer" and hand.session.settled)
    hand.look(1084, 1977, 1184, 2077)
    hand.click(*NUCLEUS)
    hand.until(lambda: hand.session.preview is not None)
    hand.ready()
    strokes = hand.viewer.layers["Strokes"]
    (corners,) = strokes.data
    left, top, right, bottom = hand.session.active[1].box.geometry.bounds
    np.testing.assert_allclose(corners.min(0), [top - 0.5, left - 0.5])
    np.testing.assert_allclose(corners.max(0), [bottom - 0.5, right - 0.5])
    shots = os.environ.get("SHOTS")
    if shots:
        hand.viewer.screenshot(f"{shots}/boxed.png", canvas_only=False, flash=False)
    hand.key(Qt.Key_Return)
    assert strokes.nshapes == 0
    (kept,) = hand.session.store.iterate()
    assert [p.by for p in kept.provenance.prompts] == [None, small.name]


@pytest.mark.slow
def test_they_are_chosen_prompted_and_compared(open_dock, slide_copy, tmp_path, monkeypatch):
    from napari_histosam.models.sam import build

    monkeypatch.setitem(build._VIT, "vit_b", (768, 2, 12, (1,)))  # two blocks will do here
    shots = os.environ.get("SHOTS")
    hand = open_dock(slide_copy)
    # Random masks reach the window's edge, so that several windows are encoded for one prompt.
    monkeypatch.setattr(sys.modules[type(hand).__module__], "PATIENCE_MS", 240_000)
    registry = hand.dock.workbench.registry
    two_windows = registry.import_files(wsi_sam(tmp_path), "own-wsi").name
    boxes = registry.import_files(i_medsam(tmp_path), "own-medsam").name
    model = hand.dock.annotate.model
    model.refresh()

    def choose(name: str) -> None:
        model.choice.setCurrentIndex(model.choice.findData(name))
        hand.until(lambda: hand.session.card.name == name and hand.session.settled)

    def picture(name: str) -> None:
        if shots:
            hand.viewer.screenshot(f"{shots}/{name}.png", canvas_only=False, flash=False)

    choose(two_windows)
    hand.look(0, 800, 2200, 2900)
    hand.drag((900, 1700), (1100, 1900), (1300, 2100))
    hand.until(lambda: hand.session.preview is not None)
    hand.ready()
    # A box, and the frames of both windows round it.
    strokes = hand.viewer.layers["Strokes"]
    assert strokes.nshapes == 2 + 1
    sides = sorted(float(shape.max(0)[0] - shape.min(0)[0]) for shape in strokes.data)
    assert sides[2] == pytest.approx(2 * sides[1])
    picture("wsi")
    hand.key(Qt.Key_Escape)
    assert strokes.nshapes == 0

    choose(boxes)
    hand.look(1084, 1977, 1184, 2077)
    hand.click(*NUCLEUS)
    hand.until(lambda: hand.session.preview is not None)
    assert "box" in hand.said
    assert hand.session.active[1].model == boxes
    picture("medsam")

    box = hand.dock.annotate.compare
    option = QStyleOptionGroupBox()
    box.initStyleOption(option)
    mark = box.style().subControlRect(QStyle.CC_GroupBox, option, QStyle.SC_GroupBoxCheckBox, box)
    QTest.mouseClick(box, Qt.LeftButton, Qt.NoModifier, mark.center() + QPoint(0, 0))
    hand.until(
        lambda: (
            hand.session.comparison is not None
            and all(one.shown or one.trouble for one in hand.session.comparison.entrants)
        )
    )
    assert {two_windows, boxes, "histosam-small"} <= set(box.rows)
    picture("compared")
