"""SAM-Lung as it is trained: what learns, what is left out, how windows are varied, its classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.families import family
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.sam.build import BUNDLED
from napari_histosam.models.sam_lung.load import network_of
from napari_histosam.models.sam_lung.network import learned
from napari_histosam.models.sam_lung.trainable import SamLungTrainable
from napari_histosam.models.trained import methods_of, weights_of
from napari_histosam.models.window_trainable import UNKNOWN, Look, Paced, WindowTruth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = 128


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    made = ModelRegistry(tmp_path_factory.mktemp("lung"), offline_dirs=[])
    made.begin("sam", "histosam-small", "begun")
    made.begin("sam-lung", "begun", "lung")
    return made


@pytest.fixture
def make(known: ModelRegistry) -> Callable[..., SamLungTrainable]:
    def made(*classes: str) -> SamLungTrainable:
        card = replace(known.get("lung"), window_px=SIDE, classes=classes or ("Tumour",))
        builder: Any = family("sam-lung")
        found = builder.trainable(card, weights_of(known, "lung"), "decoder")
        assert isinstance(found, SamLungTrainable)
        return found

    return made


def look(model: SamLungTrainable, image: np.ndarray, areas: np.ndarray) -> Look:
    truth, inputs = WindowTruth.of_areas(areas), model.prepare(image)
    return Look(inputs, model.encode(inputs, truth), truth)


def test_decoder_alone_on_the_bundled_encoder(known: ModelRegistry, make: Callable) -> None:
    card = known.get("lung")
    assert methods_of(card) == ("decoder",)
    assert methods_of(known.get("sam-lung")) == ("decoder", "mona")
    model = make()
    with pytest.raises(InputError, match="'mona': choose decoder"):
        SamLungTrainable(card, model.module, "mona")
    named = learned(model.module)
    assert {name for name, part in named.items() if part.requires_grad} == set(named)
    assert isinstance(model, Paced)
    assert model.pace(0, 10, 5) < model.pace(10, 10, 5) > model.pace(40, 10, 5)


def test_what_is_unknown_teaches_nothing(make: Callable, he_image: Callable) -> None:
    """Neither a label of 255 nor what lies beyond a small window."""
    model, image = make(), he_image(SIDE, SIDE, 1)
    nothing = look(model, image, np.full((SIDE, SIDE), UNKNOWN, np.uint8))
    (parts,) = model.losses([nothing, nothing])
    torch.stack(list(parts.values())).sum().backward()
    grads = [p.grad for p in model.module.parameters() if p.grad is not None]
    assert grads
    assert not any(grad.any() for grad in grads)
    areas = (he_image(100, 90, 2)[..., 0] > 150).astype(np.uint8)
    whole = np.full((SIDE, SIDE), UNKNOWN, np.uint8)
    whole[:100, :90] = areas
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    white[:100, :90] = image[:100, :90]
    (small,), (large,) = (
        model.losses([look(model, *pair)]) for pair in ((image[:100, :90], areas), (white, whole))
    )
    torch.testing.assert_close(small, large)
    assert model.likely(look(model, image[:100, :90], areas)).shape == (1, 100, 90)


def test_areas_turn_with_their_pixels(make: Callable, he_image: Callable) -> None:
    model, image = make(), he_image(SIDE, SIDE, 4)
    rgb = model.prepare(image)["rgb"]
    areas = (rgb[0] > 150).to(torch.uint8)
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        pixels, turned = model._varied(rgb, areas)
        assert ((pixels[0] > 150 / 255) == (turned == 1)).float().mean() > 0.9
        assert not torch.equal(pixels, rgb.float() / 255)
        seen.add(turned.numpy().tobytes())
    assert len(seen) == 8


def test_more_classes_begin_as_what_was_known(make: Callable, he_image: Callable) -> None:
    areas = np.zeros((SIDE, SIDE), np.uint8)
    areas[:40], areas[40:80] = 1, 3
    one, three = make(), make("A", "B", "C")
    image = he_image(SIDE, SIDE, 5)
    likely = [model.likely(look(model, image, areas)) for model in (one, three)]
    np.testing.assert_allclose(likely[1].sum(0), likely[0][0], atol=1e-5)
    three.teach(True)
    optimiser = three.optimiser(0.05)
    torch.manual_seed(0)
    for _ in range(25):
        optimiser.zero_grad()
        window = look(three, image, areas)
        (parts,) = three.losses([window, window])
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        optimiser.step()
    three.teach(False)
    state = three.state()
    assert state["mask_decoder.classifier.weight"].shape[0] == 4
    again = make("A", "B", "C")
    again.restore(state)
    found = again.likely(look(again, image, areas))
    np.testing.assert_array_equal(found, three.likely(look(three, image, areas)))
    assert found[0, :40].mean() > found[0, 40:].mean()
    assert found[2, 40:80].mean() > found[2, 80:].mean()


def test_a_model_on_the_bundled_encoder_goes_through_a_file(
    known: ModelRegistry, tmp_path: Path, he_image: Callable
) -> None:
    path = tmp_path / "mine.safetensors"
    known.export("lung", path)
    card = known.import_file(path, "again")
    own = known.get("lung")
    assert (card.variant, card.window_px, card.recipe) == (BUNDLED, own.window_px, own.recipe)
    image = he_image(SIDE, SIDE, 6)
    wanted = known.load("lung", "cpu").probabilities(image)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(known.load("again", "cpu").probabilities(image), wanted)  # type: ignore[attr-defined]
    given = known.load("sam-lung", "cpu", [path])
    assert given.card.variant == BUNDLED
    np.testing.assert_array_equal(given.probabilities(image), wanted)  # type: ignore[attr-defined]
    broken = {k: v for k, v in weights_of(known, "lung").items() if "neck.0" not in k}
    with pytest.raises(InputError, match="with the bundled encoder"):
        network_of(own, broken, "x")
    with pytest.raises(InputError, match="multiple of 128 px"):
        SamLungTrainable(
            replace(own, window_px=192), network_of(own, weights_of(known, "lung"), "x"), "decoder"
        )
