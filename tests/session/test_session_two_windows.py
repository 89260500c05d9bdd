"""A model with two concentric windows gets both, read exactly, also at the slide's edge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely

from napari_histosam import open_slide
from napari_histosam.models import EmbeddingCache
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.records import Prompt
from napari_histosam.session.batch import segment
from napari_histosam.session.trial import Trial
from napari_histosam.slide.open import open_array

SIDE = 64


class Pair:
    """A model that looks at two windows and answers with the box that it is asked for."""

    weights_hash = "hash of pair"
    device = "cpu"

    def __init__(self, mpp: float, side: int = SIDE) -> None:
        self.card = ModelCard(
            "pair", "pair", "Pair", "BSD-3-Clause", ("point", "box"), side, mpp, (1.0, 2.0)
        )
        self.seen: list[list[np.ndarray]] = []

    def encode(self, images) -> Embedding:
        self.seen.append(list(images))
        return Embedding({"fine": images[0]}, images[0].shape[1::-1])

    def decode(self, embedding, objects, *, multimask=True) -> list[Candidates]:
        masks = []
        for asked in objects:
            mask = np.zeros(embedding.size[::-1], bool)
            left, top, right, bottom = np.round(asked.box).astype(int)
            mask[top:bottom, left:right] = True
            masks.append(mask)
        none = np.zeros((1, 0, 0), np.float32)
        return [Candidates(m[None], np.array([0.5]), none) for m in masks]


def ask(slide, model, *box):
    prompt = Prompt(shapely.box(*box), "box", "a")
    return list(segment(slide, model, [prompt], EmbeddingCache(None)))


def means(pixels: np.ndarray, left: int, top: int, factor: int, fill) -> np.ndarray:
    """Return the means of ``factor`` x ``factor`` px from a corner on; outside is ``fill``."""
    reach = SIDE * factor
    out = np.empty((reach, reach, 3), float)
    out[:] = fill
    height, width = pixels.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + reach, width), min(top + reach, height)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return out.reshape(SIDE, factor, SIDE, factor, 3).mean((1, 3))


@pytest.mark.parametrize(
    "box",
    [(150, 150, 170, 175), (2, 3, 30, 30), (372, 270, 399, 299), (0, 0, 90, 90)],
    ids=["middle", "corner", "other corner", "larger"],
)
def test_both_windows_are_exact_means_around_one_centre(box) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (300, 400, 3), np.uint8)
    with open_array([pixels], mpp=(0.5, 0.5)) as slide:
        model = Pair(mpp=1.0)
        (found,) = ask(slide, model, *box)
        window = found.provenance.window
        assert window.scale == (2.0, 2.0)
        assert window.contains([box[:2], box[2:]])
        (images,) = model.seen
        for image, factor in zip(images, (2, 4), strict=True):
            left, top = window.cx - SIDE * factor / 2, window.cy - SIDE * factor / 2
            assert left == int(left)
            wanted = means(pixels, int(left), int(top), factor, slide.background)
            assert np.abs(image - wanted).max() <= 0.51


def test_the_coarse_window_of_a_real_slide_holds_the_fine_one(sample_slide_path) -> None:
    with open_slide(sample_slide_path) as slide:
        side = 256
        for box in ((1000, 1500, 1100, 1620), (2150, 2900, 2219, 2966), (1, 1, 60, 60)):
            model = Pair(mpp=1.0, side=side)
            (found,) = ask(slide, model, *box)
            window = found.provenance.window
            fine, coarse = model.seen[0]
            for image, mpp in ((fine, 1.0), (coarse, 2.0)):
                same = slide.read_window(window.cx, window.cy, mpp, side)
                np.testing.assert_array_equal(image, same)
            half = fine.reshape(side // 2, 2, side // 2, 2, 3).mean((1, 3))
            inner = coarse[side // 4 : -side // 4, side // 4 : -side // 4]
            assert np.abs(half - inner).max() <= 1.01
            # What is beyond the slide is its background, not black.
            at = window.from_level0([[-40.0, -40.0]])[0]
            if (at >= 0).all():
                assert tuple(fine[int(at[1]), int(at[0])]) == slide.background


def test_a_trial_on_an_image_gives_both_windows() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with open_array([pixels], mpp=(1.0, 1.0)) as slide:
        model = Pair(mpp=1.0)
        answer = Trial(slide, model, EmbeddingCache(None)).ask([], np.array([20.0, 20, 40, 40]))
        assert answer.masks[0].sum() == 400
        (images,) = model.seen
        np.testing.assert_array_equal(images[0], pixels)
        half = SIDE // 2
        wanted = pixels.reshape(half, 2, half, 2, 3).mean((1, 3))
        inner = images[1][half // 2 : -(half // 2), half // 2 : -(half // 2)]
        assert np.abs(inner - wanted).max() <= 0.51
        assert (images[1][: half // 2] == slide.background).all()


@pytest.mark.slow
def test_the_command_answers_with_wsi_sam(sample_slide_path, tmp_path, capsys) -> None:
    """Files as upstream writes them answer a box at the slide's edge."""
    import torch

    from napari_histosam.cli import main
    from napari_histosam.exchange import write_prompts
    from napari_histosam.models.sam.build import build_sam, published_names
    from napari_histosam.models.wsi_sam.decoder import TokenDecoder

    sam = build_sam("vit_t")
    own, names = sam.state_dict(), published_names(sam)
    decoder = TokenDecoder().state_dict()
    generator = torch.Generator().manual_seed(0)

    def drawn(shapes: dict) -> dict:
        out = {}
        for name, shape in shapes.items():
            x = torch.randn(shape, generator=generator) / max(np.prod(shape[1:]), 1) ** 0.5
            out[name] = 1 + 0.1 * x.abs() if name.endswith("running_var") else x
        return out

    files = [tmp_path / "mobile_sam.pt", tmp_path / "net_high.pth", tmp_path / "net_low.pth"]
    torch.save(drawn({name: tuple(own[ours].shape) for name, ours in names.items()}), files[0])
    for file in files[1:]:
        state = drawn({name: tuple(value.shape) for name, value in decoder.items()})
        torch.save({"model": state, "epoch": 1}, file)
    prompts = tmp_path / "p.geojson"
    write_prompts([Prompt(shapely.box(1900, 2600, 2219, 2966), "box", "a")], prompts)
    out = tmp_path / "out.geojson"
    argv = ["segment", sample_slide_path, "--prompts", prompts, "--model", "wsi-sam", "--weights"]
    argv += [*files, "--out", out, "--device", "cpu", "--json"]
    assert main(list(map(str, argv))) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["model"] == "wsi-sam"
    assert row["objects"] == 1 or "empty mask" in " ".join(row["warnings"])
    assert out.is_file()
