"""A SAM-Lung with random weights over a slide: its maps are its own answers, the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_histosam.models import ModelRegistry
from napari_histosam.models.sam import build as sam_build
from napari_histosam.models.sam_lung.model import SamLungModel
from napari_histosam.models.sam_lung.network import build
from napari_histosam.session.regions import (
    AreaSettings,
    RegionMap,
    RegionRequest,
    areas,
    map_regions,
    plan_regions,
)
from napari_histosam.slide import open_array
from region_tints import landscape


@pytest.fixture(scope="module")
def lung() -> SamLungModel:
    """Two blocks of the twelve and small windows, so that it is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_build._VIT, "vit_b", (768, 2, 12, (1,)))
        torch.manual_seed(5)
        net = build(2, cbam=True).eval()
    card = replace(ModelRegistry().get("sam-lung"), window_px=64)
    return SamLungModel(card, net, "seed 5")


def test_a_map_by_sam_lung(lung, tmp_path):
    with open_array([landscape(260, 200)], (1.0, 1.0), "land") as slide:
        request = RegionRequest(plan_regions(slide, lung.card), 0)
        for name in "ab":
            outcome = map_regions(slide, lung, request, tmp_path / name)
        assert outcome.tiles == 6 * 5
        own = lung.probabilities(slide.read(request.plan.tile(0).window))
    found, again = (RegionMap(tmp_path / name) for name in "ab")
    whole = found.read(0, 0, 200, 0, 260)
    assert np.array_equal(whole, again.read(0, 0, 200, 0, 260))
    assert found.classes == ("Tumour",)
    # Where no other window lies, the map is the model's answer.
    alone = request.plan.firsts(0)[1], request.plan.firsts(1)[1]
    assert min(alone) >= 32
    apart = np.abs(whole[0, : alone[1], : alone[0]] / 255 - own[0, : alone[1], : alone[0]])
    assert apart.max() <= 0.5 / 255 + 1e-4
    level = float(np.median(whole)) / 255
    made = areas(found, AreaSettings(level, smooth_um=5.0))
    assert made.areas
    assert all(one.mean > level - 0.2 for one in made.areas)
