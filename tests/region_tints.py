"""A picture with coloured tissue, and models that tell the tissue's colours apart."""

from __future__ import annotations

import cv2
import numpy as np

from napari_histosam.models.cards import ModelCard


class Tinter:
    """A real region model, if a simple one: how red a px is, and how blue, of its colour alone."""

    def __init__(
        self, window_px: int = 256, mpp: float | None = 1.0, classes=("Tumour", "Stroma")
    ) -> None:
        self.card = ModelCard(
            "tinter",
            "tinter",
            "Tints",
            "BSD-3-Clause",
            (),
            window_px,
            mpp,
            finds="regions",
            classes=tuple(classes),
        )
        self.weights_hash = "hash of tinter"
        self.device = "cpu"
        self.seen = 0
        self.hook = lambda number: None

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        self.hook(self.seen)
        self.seen += 1
        return tint(image)[: len(self.card.classes)]


def offer(monkeypatch, model: Tinter) -> None:
    """Have every registry offer a model, beside those that there are."""
    from napari_histosam.models import ModelRegistry

    cards, load = ModelRegistry.cards, ModelRegistry.load

    def with_it(self):
        return {**cards(self), model.card.name: model.card}

    def loaded(self, name, *args, **kwargs):
        return model if name == model.card.name else load(self, name, *args, **kwargs)

    monkeypatch.setattr(ModelRegistry, "cards", with_it)
    monkeypatch.setattr(ModelRegistry, "load", loaded)


class Dazzled(Tinter):
    """One whose answer near the border of its window is off, as that of networks is."""

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        found = super().probabilities(image)
        high, wide = found.shape[1:]
        y = np.minimum(np.arange(high), np.arange(high)[::-1])[:, None]
        x = np.minimum(np.arange(wide), np.arange(wide)[::-1])
        off = 0.2 * np.exp(-np.minimum(y, x) / 6)
        return (found * (1 - off)).astype(np.float32)


def tint(image: np.ndarray) -> np.ndarray:
    red, green, blue = (image[..., i].astype(np.float32) for i in range(3))
    redness = 1 / (1 + np.exp(-(red - blue) / 25))
    coloured = 1 / (1 + np.exp(-(np.maximum(red, blue) - green - 50) / 12))
    return np.stack([coloured * redness, coloured * (1 - redness)]).astype(np.float32)


def landscape(width: int, height: int, seed: int = 0) -> np.ndarray:
    """White glass with blobs of red and blue tissue, with holes and soft borders."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(height // 8 + 1, width // 8 + 1)).astype(np.float32)
    field = cv2.GaussianBlur(rough, (0, 0), 5) * 18
    which = cv2.GaussianBlur(rng.normal(size=rough.shape).astype(np.float32), (0, 0), 8) * 20
    field, which = (cv2.resize(one, (width, height)) for one in (field, which))
    cover = np.clip(field + 0.5, 0, 1)[..., None]
    mix = np.clip(which * 0.5 + 0.5, 0, 1)[..., None]
    tissue = mix * np.array([190.0, 70, 90]) + (1 - mix) * np.array([90.0, 70, 190])
    image = cover * tissue + (1 - cover) * 240
    image += rng.integers(-6, 7, image.shape, np.int8)
    return np.clip(image, 0, 255).astype(np.uint8)
