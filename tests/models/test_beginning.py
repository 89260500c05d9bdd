"""Untrained models of the families that can begin behind the bundled encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_histosam import home
from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.sam.beginning import fresh_sam
from napari_histosam.models.sam.build import BUNDLED, load_sam
from napari_histosam.models.sam.encoder import encode_features
from napari_histosam.models.small.load import filled_net
from napari_histosam.models.trained import build_trainable, methods_of


@pytest.fixture(scope="module")
def small():
    return read_checkpoint(home.shipped("weights") / "histosam-small.safetensors")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOSAM_HOME", str(tmp_path))
    registry = ModelRegistry(offline_dirs=[])
    registry.begin("sam", "histosam-small", "begun")
    return registry


@pytest.mark.parametrize(
    ("decoder", "base"), [("sam", None), ("wsi-sam", "begun"), ("i-medsam", "begun")]
)
def test_what_begins_is_listed_answers_and_can_be_trained(registry, decoder, base):
    card = registry.get("begun") if base is None else registry.begin(decoder, base, f"my {decoder}")
    assert registry.is_ready(card.name)
    assert "train it" in card.note
    assert "decoder" in methods_of(card)
    assert "lora" not in methods_of(card)
    model = registry.load(card.name, "cpu")
    rng = np.random.default_rng(0)
    side = 384 if decoder == "i-medsam" else 256
    image = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    embedding = model.encode([image] * len(card.window_scales))
    box = ObjectPrompts(box=np.array([40.0, 40.0, 120.0, 100.0]))
    (found,) = model.decode(embedding, [box], multimask=False)
    assert found.masks.shape == (1, side, side)
    assert build_trainable(registry, card.name, "decoder").card == card


def test_a_detector_begins_on_the_bundled_encoder(registry):
    card = registry.begin("des-sam", "begun", "my detector")
    assert card.finds == "objects"
    assert methods_of(card) == ("decoder",)
    assert registry.load(card.name, "cpu").card == card


@pytest.mark.parametrize("decoder", ["sam-lung", "ep-sam"])
def test_regions_begin_on_the_bundled_encoder(registry, decoder):
    card = registry.begin(decoder, "begun", "my regions")
    assert (card.finds, card.variant) == ("regions", BUNDLED)
    assert card.recipe.get("channel_order", "rgb") == "rgb"
    assert card.recipe.get("points_frame", "sam") == "sam"
    model = registry.load(card.name, "cpu")
    assert model.card == card
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (96, 64, 3), dtype=np.uint8)
    found = model.probabilities(image)
    assert found.shape == (1, 96, 64)
    assert ((found >= 0) & (found <= 1)).all()


def test_beginning_twice_gives_the_same_weights(small):
    one, other = fresh_sam(small, 3), fresh_sam(small, 3)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_trunk_is_the_bundled_one(small):
    """Its finest features are those of the bundled network, wherever they lie in the grid."""
    sam = load_sam(fresh_sam(small), "fresh", BUNDLED)
    pixels = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 255
    normed = (pixels - sam.pixel_mean) / sam.pixel_std
    with torch.inference_mode():
        theirs = filled_net(small, "bundled").encode(pixels / 255)
        joined = sam.image_encoder.joined(normed)
        embedding, early = encode_features(sam.image_encoder, normed)
    places = torch.nn.functional.pixel_unshuffle(theirs.eighth, 2)
    width = places.shape[1]
    assert torch.allclose(joined[:, :width], places, atol=1e-4)
    assert torch.allclose(
        joined[:, width : width + theirs.sixteenth.shape[1]], theirs.sixteenth, atol=1e-4
    )
    assert embedding.shape == (1, 256, 16, 16)
    assert early.shape == (1, 160, 16, 16)


@pytest.mark.parametrize(
    ("decoder", "base", "name", "says"),
    [
        ("wsi-sam", "histosam-small", "new", "cannot be the base"),
        ("sam", "begun", "new", "cannot be the base"),
        ("classical", "begun", "new", "choose sam"),
        ("wsi-sam", "begun", "wsi-sam", "taken"),
        ("wsi-sam", "sam-vit-b", "new", "not on this machine"),
        ("wsi-sam", "nothing", "new", "No model is called"),
    ],
)
def test_what_cannot_begin_is_refused_in_a_sentence(registry, decoder, base, name, says):
    before = sorted(registry.folder.iterdir())
    with pytest.raises(InputError, match=says):
        registry.begin(decoder, base, name)
    assert sorted(registry.folder.iterdir()) == before


def test_an_adapted_file_and_an_encoder_of_other_kinds_are_refused(registry):
    card = registry.begin("i-medsam", "begun", "mine")
    files = registry.files(card.name)
    state = {
        name: value
        for name, value in read_checkpoint(files[1]).items()
        if name.startswith("mask_decoder.seg_field")
    }
    broken = registry.folder / "broken.pth"
    torch.save(state, broken)
    with pytest.raises(InputError, match="does not fit I-MedSAM"):
        registry.load("mine", "cpu", [files[0], broken])
