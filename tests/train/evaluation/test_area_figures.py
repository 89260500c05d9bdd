"""Figures of areas: per image, per class, by rank; and pictures laid out in windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_histosam.models.cards import ModelCard
from napari_histosam.train.evaluation.areas import AreaFigures, told
from napari_histosam.train.evaluation.figures import areal
from napari_histosam.train.evaluation.laid_out import probabilities_of

SHAPE = (6, 7)
maps = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 255]))
likely = hnp.arrays(np.float32, (2, *SHAPE), elements=st.integers(0, 50).map(lambda n: n / 100))


@given(st.lists(st.tuples(maps, likely), min_size=1, max_size=3))
def test_ranks_are_those_of_all_pairs(images: list) -> None:
    figures = AreaFigures(2)
    for number, (truth, found) in enumerate(images):
        figures.add(str(number), found, truth)
    wanted = []
    for number in (1, 2):
        own = np.concatenate([f[number - 1][t == number] for t, f in images])
        rest = np.concatenate([f[number - 1][(t != number) & (t != 255)] for t, f in images])
        if own.size and rest.size:
            wins = (own[:, None] > rest[None]) + 0.5 * (own[:, None] == rest[None])
            wanted.append(wins.mean())
    auc = figures.auc()
    assert (auc is None) == (not wanted)
    if wanted:
        assert auc == pytest.approx(np.mean(wanted))
    assert figures.images == len(images)
    assert 0 <= figures.iou() <= figures.dice() <= 1


@given(maps, likely)
def test_parts_of_an_image_add_up(truth: np.ndarray, found: np.ndarray) -> None:
    whole, parts = AreaFigures(2), AreaFigures(2)
    whole.add("a", found, truth)
    parts.add("a", found[:, :3], truth[:3])
    parts.add("a", found[:, 3:], truth[3:])
    assert parts.images == 1
    for one, other in (
        (whole.dice(), parts.dice()),
        (whole.iou(), parts.iou()),
        (whole.auc(), parts.auc()),
    ):
        assert one == other
    twice = AreaFigures.of([whole, parts])
    assert twice.images == 2
    assert twice.dice() == pytest.approx(whole.dice())


def test_what_is_likeliest_is_told() -> None:
    found = np.array([[[0.6, 0.2, 0.4]], [[0.1, 0.3, 0.5]]], np.float32)
    assert told(found).tolist() == [[1, 0, 2]]


def test_images_without_a_class_count_false_areas() -> None:
    clean, wrong = AreaFigures(1), AreaFigures(1)
    nothing = np.zeros((1, 4, 4), np.float32)
    some = nothing.copy()
    some[0, 0] = 1
    truth = np.zeros((4, 4), np.uint8)
    truth[3] = 255
    clean.add("a", nothing, truth)
    wrong.add("b", some, truth)
    assert clean.dice() == clean.iou() == 1
    assert clean.auc() is None
    both = AreaFigures.of([clean, wrong])
    row = areal(both, ["Tumour"], {"x": clean, "y": wrong}, [1.0, 3.0, 2.0])
    assert (row["n_images"], row["n_without"], row["seconds"]) == (2, 2, 2.0)
    assert row["false_area_share"] == pytest.approx(4 / 12 / 2, abs=1e-4)
    assert row["area_dice"] == 0.5
    assert row["iou_by_class"] == {"Tumour": 0}
    assert row["areas_by_source"]["x"]["area_dice"] == 1
    assert areal(clean, ["Tumour"], {}, [])["iou_by_class"] == {"Tumour": None}


class Red:
    """Says that a px is as likely as it is red; white beyond a small window."""

    card = ModelCard("r", "sam-lung", "t", "none", (), 64, 1.0, classes=("Red", "Other"))
    weights_hash = ""
    device = "cpu"

    def __init__(self) -> None:
        self.seen = 0

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        assert image.shape == (64, 64, 3)
        self.seen += 1
        red = image[..., 0].astype(np.float32) / 255
        return np.stack([red, (1 - red) / 2])


@pytest.mark.parametrize(
    ("shape", "mpp", "windows"),
    [((150, 100), 1.0, 4 * 3), ((30, 40), 1.0, 1), ((64, 200), 0.5, 3), ((40, 30), 2.0, 2)],
)
def test_a_picture_laid_out_comes_back_px_by_px(
    shape: tuple[int, int], mpp: float, windows: int
) -> None:
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    image = np.zeros((*shape, 3), np.uint8)
    image[..., 0] = (columns * 120 / width + rows * 120 / height).astype(np.uint8)
    model = Red()
    found = probabilities_of(image, mpp, model)
    assert found.shape == (2, *shape)
    assert model.seen == windows
    np.testing.assert_allclose(found[0][4:-4, 4:-4], image[4:-4, 4:-4, 0] / 255, atol=0.02)
    np.testing.assert_allclose(found[1], (1 - found[0]) / 2, atol=1e-5)
