"""The judge: a set without order, whatever stands beside it as padding."""

from __future__ import annotations

import pytest
import torch

from napari_histosam.models.small.decoder import DESCRIBED, MASKS
from napari_histosam.models.small.judge import Judge


@pytest.fixture
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval()


def masks(count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    described = torch.randn(1, count, DESCRIBED, generator=generator)
    areas = torch.rand(1, count, generator=generator) * 1000
    return described, torch.arange(count)[None] % MASKS, areas, torch.ones(1, count, dtype=bool)


def test_the_order_of_the_masks_does_not_matter(judge: Judge) -> None:
    given = masks(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        told = judge(*given)
        assert told.shape == (1, 12)
        assert told.dtype == torch.float32
        torch.testing.assert_close(judge(*(part[:, order] for part in given)), told[:, order])


def test_each_is_judged_beside_the_others(judge: Judge) -> None:
    given = masks(6)
    with torch.no_grad():
        together, alone = judge(*given), judge(*(part[:, :1] for part in given))
    assert (together[:, :1] - alone).abs().max() > 1e-4


def test_padding_does_not_matter(judge: Judge) -> None:
    described, kinds, areas, there = masks(4)
    padded = (
        torch.cat([described, torch.full((1, 3, DESCRIBED), 99.0)], 1),
        torch.cat([kinds, torch.zeros(1, 3, dtype=torch.long)], 1),
        torch.cat([areas, torch.full((1, 3), 5e5)], 1),
        torch.cat([there, torch.zeros(1, 3, dtype=torch.bool)], 1),
    )
    with torch.no_grad():
        short, long = judge(described, kinds, areas, there), judge(*padded)
    torch.testing.assert_close(long[:, :4], short, atol=1e-5, rtol=1e-4)


def test_the_scale_of_the_window_does_not_matter(judge: Judge) -> None:
    described, kinds, areas, there = masks(9)
    with torch.no_grad():
        near, far = (judge(described, kinds, areas * f + f - 1, there) for f in (1, 16))
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)


def test_nothing_found_and_wild_numbers_are_no_error(judge: Judge) -> None:
    described, kinds, areas, there = masks(3)
    with torch.no_grad():
        told = judge(described * 1e6, kinds, areas * 0, there)
    assert torch.isfinite(told).all()
