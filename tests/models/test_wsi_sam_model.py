"""WSI-SAM: prompts in both windows, masks as grids, what its score means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from napari_histosam.errors import InputError
from napari_histosam.models.prompts import check_prompts
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.wsi_sam.frame import frame_of, in_both, to_coarse
from napari_histosam.models.wsi_sam.score import scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.wsi_sam.model import WsiSamModel

FULL = (1024, 1024)


@pytest.fixture(scope="module")
def model(session_registry: ModelRegistry, wsi_files: list[Path]) -> WsiSamModel:
    return session_registry.load("wsi-sam", "cpu", wsi_files)  # type: ignore[return-value]


@given(st.floats(-50, 1100), st.floats(-50, 1100))
def test_points_go_where_upstream_puts_them(x: float, y: float) -> None:
    """Index i of the fine window becomes i / 2 + 256; both frames count half a pixel more."""
    index = np.array([[x, y]])
    np.testing.assert_allclose(to_coarse(index + 0.5, FULL) - 0.5, index / 2 + 256, atol=1e-9)


@given(st.integers(8, 1024), st.integers(8, 1024))
def test_the_centre_stays_the_centre(width: int, height: int) -> None:
    centre = np.array([width / 2, height / 2])
    assert np.abs(to_coarse(centre, (width, height)) - centre).max() <= 0.25 + 1e-9


def test_points_and_boxes_are_moved_and_labels_kept() -> None:
    asked = ObjectPrompts(
        points=np.array([[10.5, 20.5], [700.5, 3.5]]),
        labels=np.array([1, 0]),
        box=np.array([0.5, 0.5, 964.5, 697.5]),
    )
    (checked,) = check_prompts([asked], FULL)
    fine, coarse = in_both(checked, FULL)
    assert fine == checked
    np.testing.assert_allclose(coarse.box, [256.5, 256.5, 738.5, 605.0])
    np.testing.assert_array_equal(coarse.labels, [1, 0])
    np.testing.assert_allclose(coarse.points, [[261.5, 266.5], [606.5, 258.0]])


def test_masks_become_grids_of_0_and_255_with_nothing_beyond_the_fine_window() -> None:
    mask = np.zeros((1024, 1024), bool)
    mask[400:600, 100:500] = True
    (checked,) = check_prompts([ObjectPrompts(mask=mask)], FULL)
    fine, coarse = (one.logits for one in in_both(checked, FULL))
    assert fine is not None
    assert coarse is not None
    assert set(np.unique(fine)) == set(np.unique(coarse)) == {0.0, 255.0}
    np.testing.assert_array_equal(fine > 0, mask[::4, ::4])
    wanted = np.zeros((256, 256), bool)
    wanted[64 + 50 : 64 + 75, 64 + 12 : 64 + 63] = True  # 12.5 to 62.5: a half counts
    np.testing.assert_array_equal(coarse > 0, wanted)
    outside = np.ones((256, 256), bool)
    outside[64:192, 64:192] = False
    assert not coarse[outside].any()


def test_a_mask_smaller_than_a_cell_is_not_lost() -> None:
    mask = np.zeros((1024, 1024), bool)
    mask[501:503, 333] = True
    (checked,) = check_prompts([ObjectPrompts(mask=mask)], FULL)
    for one in in_both(checked, FULL):
        assert one.logits is not None
        assert (one.logits > 0).sum() == 1


def test_earlier_logits_count_only_where_there_is_nothing_else() -> None:
    logits = np.full((256, 256), -3.0, np.float32)
    logits[100:120, 60:90] = 2.0
    fine, coarse = in_both(ObjectPrompts(logits=logits), FULL)
    assert fine.logits is not None
    assert coarse.logits is not None
    np.testing.assert_array_equal(fine.logits > 0, logits > 0)
    assert coarse.logits[64 + 55, 64 + 37] == 255
    click = ObjectPrompts(points=np.array([[5.0, 5.0]]), labels=np.array([1]), logits=logits)
    assert all(one.logits is None for one in in_both(click, FULL))
    with pytest.raises(InputError, match="256 x 256 finite"):
        in_both(ObjectPrompts(logits=logits[:9]), FULL)


def disk(x: float, y: float, radius: float, slope: float = 1.0) -> torch.Tensor:
    yy, xx = np.mgrid[:256, :256]
    away = np.hypot(xx + 0.5 - x, yy + 0.5 - y)
    return torch.from_numpy(((radius - away) * slope).astype(np.float32))[None]


def test_the_score_is_high_where_the_windows_agree_on_a_sharp_outline() -> None:
    fine = disk(120, 140, 50, slope=5)
    same = disk(64 + 60, 64 + 70, 25, slope=5)
    assert float(scores(fine, same, FULL)) > 0.95
    assert float(scores(disk(120, 140, 50, slope=0.1), same, FULL)) < 0.8  # vague
    assert float(scores(fine, disk(64 + 80, 64 + 70, 25, slope=5), FULL)) < 0.5  # elsewhere
    assert float(scores(fine, disk(10, 10, 5), FULL)) == 0  # beyond the fine window
    assert float(scores(torch.full((1, 256, 256), -1.0), same, FULL)) == 0  # empty


def test_the_score_looks_at_the_window_not_at_its_padding() -> None:
    size = (512, 400)
    fine = disk(60, 50, 20, slope=5)
    coarse = disk(512 / 16 + 30, 400 / 16 + 25, 10, slope=5)
    clean = scores(fine, coarse, size)
    assert float(clean) > 0.9
    fine[:, 101:] = 9
    fine[:, :, 129:] = 9
    assert torch.equal(scores(fine, coarse, size), clean)


def test_windows_must_be_two_of_one_size_and_fit(model: WsiSamModel, he_image: Callable) -> None:
    image = he_image(32, 48, 1)
    for images in ([image], [image, image[:16]], [image, image, image]):
        with pytest.raises(InputError, match="two windows of one size"):
            model.encode(images)
    with pytest.raises(InputError, match="at most 1024 px"):
        frame_of((1025, 30))


def test_the_coarse_window_counts(model: WsiSamModel, he_image: Callable) -> None:
    images = [he_image(256, 256, seed) for seed in (1, 2, 3)]
    box = ObjectPrompts(box=np.array([40.0, 50, 200, 180]))
    one, other = (
        model.decode(model.encode([images[0], coarse]), [box])[0] for coarse in images[1:]
    )
    assert one.masks.shape == (1, 256, 256)
    assert np.abs(one.logits - other.logits).max() > 1e-3


def test_a_smaller_window_is_cut_from_the_square_and_never_stretched(
    model: WsiSamModel, he_image: Callable
) -> None:
    embedding = model.encode([he_image(200, 320, seed) for seed in (1, 2)])
    (answer,) = model.decode(embedding, [ObjectPrompts(box=np.array([40.0, 50, 200, 180]))])
    square = functional.interpolate(
        torch.from_numpy(answer.logits)[None], FULL, mode="bilinear", align_corners=False
    )
    np.testing.assert_array_equal(answer.masks[0], (square[0, 0, :200, :320] > 0).numpy())
