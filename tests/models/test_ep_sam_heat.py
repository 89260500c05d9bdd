"""EP-SAM's heat map as a region model: warm where the map is, as far as there is tumour at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import RegionModel
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.ep_sam.classifier import PatchClassifier
from napari_histosam.models.ep_sam.heat import HeatModel
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.ep_sam.network import EpSam
from napari_histosam.models.sam.build import build_sam

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 96
CARD = ModelCard("x", "ep-sam", "t", "none", (), SIDE, 0.5, finds="regions", classes=("Tumour",))


@pytest.fixture(scope="module")
def model() -> EpSamModel:
    torch.manual_seed(3)
    net = EpSam(PatchClassifier(), build_sam("bundled")).eval()
    with torch.no_grad():
        net.classifier.fc.weight.fill_(0.01)
    return EpSamModel(CARD, net, "0f", "cpu")


def test_heat_is_the_map_times_the_probability(model: EpSamModel, he_image: Callable) -> None:
    heat = HeatModel(model)
    assert isinstance(heat, RegionModel)
    assert heat.card.classes == ("heat",)
    assert heat.card.finds == "regions"
    assert heat.weights_hash != model.weights_hash
    image = he_image(70, SIDE, 1)
    found = heat.probabilities(image)
    assert found.shape == (1, 70, SIDE)
    assert found.dtype == np.float32
    likely, cells = model.heat(image)
    np.testing.assert_allclose(found[0], cells.weights()[:70] * likely, rtol=1e-6)
    assert 0 < found.max() <= likely
    np.testing.assert_array_equal(heat.probabilities(image), found)


def test_a_patch_in_which_nothing_is_warm_has_no_heat(
    model: EpSamModel, he_image: Callable
) -> None:
    weight = model.net.classifier.fc.weight
    with torch.no_grad():
        before = weight.clone()
        weight.fill_(-1)
        assert not HeatModel(model).probabilities(he_image(SIDE, SIDE, 2)).any()
        weight.copy_(before)
    with pytest.raises(InputError, match="cut it into tiles"):
        HeatModel(model).probabilities(np.zeros((SIDE + 1, 9, 3), np.uint8))
