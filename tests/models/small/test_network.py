"""The bundled network: shapes, folding, prompt maps, and what does not depend on what."""

from __future__ import annotations

import pytest
import torch

from napari_histosam.models.small.decoder import MASKS
from napari_histosam.models.small.encoder import CHANNELS, STRIDES, Features
from napari_histosam.models.small.network import SmallNet
from napari_histosam.models.small.prompt_maps import MAPS, PromptBatch, draw

NAN = float("nan")


@pytest.fixture(scope="module")
def net() -> SmallNet:
    torch.manual_seed(0)
    made = SmallNet()
    made.train()
    with torch.no_grad():  # statistics unlike those that it begins with
        for _ in range(3):
            made.decode(made.encode(torch.rand(2, 3, 64, 64)), prompts(2, 64))
    return made.eval()


def prompts(n: int, side: int, points=None, labels=None, boxes=None, previous=None) -> PromptBatch:
    half = (n, 1, side // 2, side // 2)
    return PromptBatch(
        torch.full((n, 1, 2), side / 2) if points is None else torch.tensor(points),
        torch.ones(n, 1, dtype=torch.long) if labels is None else torch.tensor(labels),
        torch.full((n, 4), NAN) if boxes is None else torch.tensor(boxes),
        torch.full(half, NAN) if previous is None else previous,
    )


def test_shapes(net):
    with torch.no_grad():
        features = net.encode(torch.rand(2, 3, 64, 96))
        for level, channels, stride in zip(features, CHANNELS, STRIDES, strict=True):
            assert level.shape == (2, channels, 64 // stride, 96 // stride)
        logits, scores = net.decode(net.encode(torch.rand(3, 3, 64, 64)), prompts(3, 64))
    assert logits.shape == (3, MASKS, 32, 32)
    assert scores.shape == (3, MASKS)


def test_folding_changes_nothing_but_the_time(net):
    folded = net.for_inference()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    pixels, asked = torch.rand(2, 3, 64, 64), prompts(2, 64)
    with torch.no_grad():
        for plain, quick in zip(
            net.decode(net.encode(pixels), asked),
            folded.decode(folded.encode(pixels), asked),
            strict=True,
        ):
            torch.testing.assert_close(plain, quick, atol=1e-4, rtol=1e-4)


def test_half_precision_is_close(net):
    folded, half = net.for_inference(), net.for_inference().to_half()
    assert half.dtype == torch.bfloat16
    pixels, asked = torch.rand(2, 3, 64, 64), prompts(2, 64)
    with torch.no_grad():
        exact, _ = folded.decode(folded.encode(pixels), asked)
        rough, scores = half.decode(half.encode(pixels.to(half.dtype)), asked)
    assert scores.dtype == torch.float32
    assert (exact - rough.float()).abs().mean() < 0.05 * exact.abs().mean()


def test_objects_do_not_see_each_other(net):
    pixels = torch.rand(2, 3, 64, 64)
    asked = prompts(2, 64, [[[20.0, 20]], [[40.0, 30]]])
    with torch.no_grad():
        features = net.encode(pixels)
        together, _ = net.decode(features, asked)
        for row in range(2):
            one = torch.tensor([row])
            alone, _ = net.decode(features.pick(one), asked.pick(one))
            torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-4)


def test_picking_features(net):
    features = Features(*(torch.arange(3.0).view(3, 1, 1, 1) for _ in STRIDES))
    for level in features.pick(torch.tensor([2, 0])):
        assert level.flatten().tolist() == [2, 0]


def test_clicks_are_drawn_where_they_are():
    maps = draw(prompts(1, 64, [[[21.0, 11.0], [51.0, 41.0], [5.0, 5.0]]], [[1, 0, -1]]))
    assert maps.shape == (1, MAPS, 32, 32)
    narrow, wide = maps[0, :2]
    for shown, (x, y) in zip(maps[0, :4], [(10, 5)] * 2 + [(25, 20)] * 2, strict=True):
        assert divmod(int(shown.argmax()), 32) == (y, x)
        assert shown.max() == 1
    assert wide[31, 31] > narrow[31, 31]


def test_padding_does_not_matter():
    short = draw(prompts(1, 64, [[[21.0, 11.0]]], [[1]]))
    padded = draw(prompts(1, 64, [[[21.0, 11.0], [3.0, 60.0]]], [[1, -1]]))
    torch.testing.assert_close(short, padded)


def test_a_box_is_drawn_as_a_tent():
    maps = draw(prompts(1, 64, boxes=[[16.0, 8.0, 48.0, 40.0]]))
    tent, flag = maps[0, 4], maps[0, 6]
    assert (flag == 1).all()
    assert tent[12, 16] > 0.9
    assert tent[12, 6] < 0 < tent[12, 9]
    assert tent[31, 31] < tent[21, 25] < 0
    assert (draw(prompts(1, 64))[0, [4, 6]] == 0).all()


def test_an_earlier_mask_is_drawn_from_minus_one_to_one():
    earlier = torch.zeros(1, 1, 32, 32)
    earlier[..., :16] = 1
    maps = draw(prompts(1, 64, previous=earlier))
    assert (maps[0, 5, :, :16] == 1).all()
    assert (maps[0, 5, :, 16:] == -1).all()
    assert (maps[0, 7] == 1).all()
    assert (draw(prompts(1, 64))[0, [5, 7]] == 0).all()


def test_nothing_to_go_by_is_no_error(net):
    asked = prompts(1, 64, [[[-1000.0, -1000.0]]], [[-1]])
    with torch.no_grad():
        logits, scores = net.decode(net.encode(torch.zeros(1, 3, 64, 64)), asked)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(scores).all()
