"""MobileSAM's part of folder wsi_sam: encoder, prompt encoder and plain decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam.encoder import encode_features
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.model import SamModel
from napari_histosam.models.sam.prompts import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "wsi_sam"
SEEDS = {"a": 11, "b": 97}
# (height, width, seed) of the image of each branch
IMAGES = {
    "a1_hr": (1024, 1024, 101),
    "a1_lr": (1024, 1024, 102),
    "b1_hr": (896, 960, 201),
    "b1_lr": (1024, 1024, 202),
}
FEATURES, LOGITS, STAT = 2e-4, 5e-4, (1e-4, 1e-4, 5e-4)


def indices(points: list[tuple[float, float]], labels: list[int]) -> ObjectPrompts:
    """Prompts given as upstream's pixel indices."""
    return ObjectPrompts(points=np.array(points) + 0.5, labels=np.array(labels))


def blob(x: float, y: float, squared: float) -> ObjectPrompts:
    yy, xx = np.mgrid[:256, :256]
    inside = (xx - x) ** 2 + (yy - y) ** 2 < squared
    return ObjectPrompts(logits=(inside * 255.0).astype(np.float32))


POINTS_B1 = [(420.0, 333.0), (507.0, 290.0), (120.0, 700.0)]
PROMPTS = {
    "a1_hr": ObjectPrompts(box=np.array([0, 0, 964, 697]) + 0.5),
    "a1_lr": ObjectPrompts(box=np.array([256, 256, 738, 604]) + 0.5),
    "b1_hr": indices(POINTS_B1, [1, 1, 0]),
    "b1_lr": indices([(x / 2 + 256, y / 2 + 256) for x, y in POINTS_B1], [1, 1, 0]),
    "b2_hr": blob(128, 100, 3600),
    "b2_lr": blob(128, 114, 900),
}


@pytest.fixture(scope="module")
def load(checkpoint: Callable, session_registry: ModelRegistry) -> Callable[[str], SamModel]:
    models: dict[str, SamModel] = {}

    def model(case: str) -> SamModel:
        if case not in models:
            path = checkpoint(FOLDER, "mobile_sam", SEEDS[case], "mobile_sam.pt")
            loaded = session_registry.load("mobile-sam", "cpu", [path])
            assert isinstance(loaded, SamModel)
            models[case] = loaded
        return models[case]

    return model


def stat(x: torch.Tensor) -> list[float]:
    return [float(x.mean()), float(x.std()), float(x.abs().max())]


def assert_close(found: Any, wanted: Any, tolerance: float, name: str) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, name
    assert found.size == 0 or np.abs(found - wanted).max() <= tolerance, name


@pytest.mark.parametrize("branch", ["a1_hr", "b1_hr"], ids=lambda b: f"{FOLDER}-{b}")
def test_encoder(branch: str, golden: Callable, load: Callable, det_init: Any) -> None:
    arrays = golden(FOLDER, branch)
    height, width, seed = IMAGES[branch]
    image = det_init.image(height, width, seed)
    sam = load(branch[0])._sam
    with torch.inference_mode():
        x = Frame((width, height), scaled=False).image(image)
        embedding, early = encode_features(sam.image_encoder, x)
    early = early.permute(0, 2, 3, 1)
    wanted = {
        "embedding_s": embedding[0, ::8, ::4, ::4],
        "early_s": early[0, ::4, ::4, ::8],
    }
    assert any(f"{branch}_{name}" in arrays for name in wanted)
    for name, found in wanted.items():
        if f"{branch}_{name}" in arrays:
            assert_close(found, arrays[f"{branch}_{name}"], FEATURES, name)
    for name, found in (("embedding_stat", embedding), ("early_stat", early)):
        if f"{branch}_{name}" in arrays:
            off = np.abs(np.array(stat(found)) - arrays[f"{branch}_{name}"])
            assert (off <= STAT).all(), name


@pytest.mark.parametrize("branch", PROMPTS, ids=lambda b: f"{FOLDER}-{b}")
def test_prompt_encoder(branch: str, golden: Callable, load: Callable) -> None:
    arrays = golden(FOLDER, branch)
    height, width, _ = IMAGES[branch.replace("b2", "b1")]
    frame = Frame((width, height), scaled=False)
    (batch,) = batches([PROMPTS[branch]], frame, 1)
    with torch.inference_mode():
        encoder = load(branch[0])._sam.prompt_encoder
        sparse, dense = encoder(batch.points, batch.boxes, batch.masks)
    assert_close(sparse, arrays[f"{branch}_sparse"], FEATURES, "sparse")
    assert_close(dense[0, ::8, ::8, ::8], arrays[f"{branch}_dense_s"], FEATURES, "dense")


@pytest.mark.parametrize("run", ["a1"], ids=lambda r: f"{FOLDER}-{r}")
def test_plain_decoder(run: str, golden: Callable, load: Callable, det_init: Any) -> None:
    arrays = golden(FOLDER, f"{run}_mobilesam")
    model = load(run[0])
    height, width, seed = IMAGES[f"{run}_hr"]
    embedding = model.encode([det_init.image(height, width, seed)])
    (batch,) = batches([PROMPTS[f"{run}_hr"]], Frame((width, height)), 1)
    low, scores = model.raw(torch.from_numpy(embedding.arrays["embedding"])[None], batch)
    assert_close(low[0, :, ::8, ::8], arrays[f"{run}_mobilesam_lowres_logits_s"], LOGITS, "logits")
    assert_close(scores, arrays[f"{run}_mobilesam_iou"], FEATURES, "iou")
    (answer,) = model.decode(embedding, [PROMPTS[f"{run}_hr"]])
    assert_close(answer.logits[0], low[0, 0], 1e-6, "public answer")
