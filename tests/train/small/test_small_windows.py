"""Windows for the judge: prompted objects, all masks found for them, and how good each is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.models.small.decoder import DESCRIBED, MASKS
from napari_histosam.models.small.network import SmallNet
from napari_histosam.models.small.octaves import COUNT
from napari_histosam.train.small import windows
from napari_histosam.train.small.windows import Example, Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.small.pool import Picture


@pytest.fixture(scope="module")
def net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().for_inference()


def same(a: list[Example], b: list[Example]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(one, other)
        for x, y in zip(a, b, strict=True)
        for one, other in zip(x, y, strict=True)
    )


def test_a_number_stands_for_a_window(net: SmallNet, nuclei: list[Picture]) -> None:
    made = Windows(net, nuclei, seed=3, length=3)
    first = [made[number] for number in range(3)]
    again = Windows(net, nuclei, seed=3, length=9)
    assert all(same(again[number], first[number]) for number in (2, 0, 1))
    assert not any(same(a, b) for a, b in pairwise(first))


def test_every_mask_is_described_and_measured(net: SmallNet, nuclei: list[Picture]) -> None:
    for number in range(3):
        found = Windows(net, nuclei, seed=1, length=3)[number]
        assert found
        for one in found:
            count = len(one.ious)
            assert count <= MASKS * COUNT
            assert one.described.shape == (count, DESCRIBED)
            # All masks of a lone click; else the first, at one octave or at those that may suit.
            kinds = [*range(MASKS)] * (count // MASKS)
            assert one.kinds.tolist() in (kinds, [0] * count)
            assert one.areas.shape == one.ious.shape
            assert one.described.dtype == one.areas.dtype == one.ious.dtype == np.float32
            assert (one.ious >= 0).all()
            assert (one.ious <= 1).all()


def test_what_is_asked(
    net: SmallNet, picture: Callable[..., Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], windows.find

    def find(net, device, embedding, prompts):
        asked.append(prompts)
        return real(net, device, embedding, prompts)

    monkeypatch.setattr(windows, "find", find)
    one = picture(200, 200, (100, 100, 30))
    made = Windows(net, [one], seed=0, length=12)
    for number in range(12):
        made[number]
    first = [p for p in asked if p.logits is None]
    assert any(p.box is None and p.points is not None for p in first)
    assert any(p.box is not None and p.points is None for p in first)
    corrections = [p for p in asked if p.logits is not None]
    assert corrections
    for prompts in corrections:
        assert prompts.points is not None
        assert prompts.logits.shape == (windows.SIDE // 2, windows.SIDE // 2)
    assert max(len(p.points) for p in corrections) <= 1 + 2


def test_a_click_on_glass_means_nothing(
    net: SmallNet, nuclei: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_ON_GLASS", 1.0)
    seen = [one for number in range(3) for one in Windows(net, nuclei, seed=2, length=3)[number]]
    assert any((one.ious == 0).all() for one in seen)


def test_what_lies_beyond_the_window_counts() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    assert windows._iou(mask, mask, 32) == 1
    assert windows._iou(mask, mask, 64) == 0.5
    assert windows._iou(~mask, mask, 32) == 0
    assert windows._iou(np.zeros_like(mask), np.zeros_like(mask), 0) == 0
