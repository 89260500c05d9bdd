"""Changes the look of training crops: stains, scanners, focus, and fluorescence made H&E-like."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from napari_histosam.train.small.warp import blurred

Image = NDArray[np.uint8]

# Optical densities of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001), rows of unit length.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_TO_STAINS = np.linalg.inv(_STAINS)


def recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Return a crop (h, w, 3) as another laboratory and scanner might have made it."""
    out: NDArray[np.floating] = image.astype(np.float32)
    if rng.random() < 0.75:
        out = _densities_changed(image, rng)
    if rng.random() < 0.12:
        out = _hue_turned(out, rng)
    if rng.random() < 0.5:
        contrast, shift = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
        out = (out - 200) * contrast + 200 + shift
    if rng.random() < 0.3:
        out = out * rng.uniform(0.92, 1.08, 3)
    if rng.random() < 0.04:
        out = np.repeat(out.mean(2, keepdims=True), 3, 2)
    return _bytes(_imaged(out, rng))


def like_haematoxylin(image: Image, rng: np.random.Generator) -> Image:
    """Return a fluorescence crop (h, w, 3) turned to look like H&E.

    Intensity becomes haematoxylin; eosin is a smooth random field with some grain.
    """
    light = image.astype(np.float32).mean(2)
    low, high = np.percentile(light, (2, 99.5))
    nuclei = np.clip((light - low) / max(high - low, 8.0), 0, 1) ** rng.uniform(0.5, 1.2)
    h, w = light.shape
    grain = blurred(rng.standard_normal((h, w)).astype(np.float32), 1.2)
    fields = [
        cv2.resize(
            rng.random((int(n), int(n))).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC
        )
        for n in rng.integers(2, 9, 2)
    ]
    ground = np.clip(0.6 * fields[0] + 0.4 * fields[1] + 0.5 * grain, 0, 1)
    pale = rng.uniform(0.0, 0.5)  # vesicular nuclei: a rim and clumps, pale in between
    chromatin = nuclei * (1 - pale * blurred(nuclei, 3.0))
    chromatin = chromatin * (1 + rng.uniform(0, 0.6) * grain)
    haematoxylin = chromatin * rng.uniform(0.8, 2.0) + ground * rng.uniform(0, 0.35)
    eosin = ground * rng.uniform(0.2, 1.0) * (1 - 0.5 * nuclei) + rng.uniform(0, 0.15)
    density = haematoxylin[..., None] * _jittered(_STAINS[0], rng)
    density = density + eosin[..., None] * _jittered(_STAINS[1], rng)
    return _bytes(250.0 * np.exp(-density))


def _densities_changed(image: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    density = -np.log((image.astype(np.float32) + 1) / 256)
    amounts = density @ _TO_STAINS
    amounts *= rng.uniform(0.6, 1.6, 3) ** np.array([1, 1, 0.5])
    amounts += rng.normal(0, 0.03, 3)
    if rng.random() < 0.06:
        # A stain that no image here has: other dyes in the places of haematoxylin and eosin.
        rows = rng.uniform(0.05, 1.0, (3, 3))
        vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    else:
        vectors = np.stack([_jittered(row, rng) for row in _STAINS])
    return (256 * np.exp(-(amounts @ vectors)) - 1).astype(np.float32)


def _jittered(row: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    moved = np.clip(row + rng.normal(0, 0.06, 3), 0.01, None)
    return moved / np.linalg.norm(moved)


def _hue_turned(image: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    hsv = cv2.cvtColor(_bytes(image), cv2.COLOR_RGB2HSV_FULL).astype(np.int32)
    hsv[..., 0] = (hsv[..., 0] + rng.integers(-40, 41)) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.5), 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL).astype(np.float32)


def _imaged(image: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    kind = rng.random()
    if kind < 0.2:
        image = blurred(image, rng.uniform(0.4, 1.4))
    elif kind < 0.35:
        soft = blurred(image, rng.uniform(0.8, 1.5))
        image = image + (image - soft) * rng.uniform(0.3, 1.2)
    if rng.random() < 0.15:
        image = image + rng.normal(0, rng.uniform(1, 7), image.shape).astype(np.float32)
    if rng.random() < 0.2:
        quality = int(rng.integers(35, 90))
        _, coded = cv2.imencode(".jpg", _bytes(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None  # it was encoded one line above
        image = decoded.astype(np.float32)
    return image


def _bytes(image: NDArray[np.floating]) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)
