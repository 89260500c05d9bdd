"""Windows of labelled images: where they lie, what they show, what is asked for in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from napari_histosam.errors import InputError
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trained import build_trainable
from napari_histosam.train.finetune.asking import plain_questions, question, turned
from napari_histosam.train.finetune.windows import Reader, Sample, View, cut
from napari_histosam.train.labelled import entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CARD = ModelRegistry(offline_dirs=[]).get("histosam-small")


def samples(data: Path, **more) -> list[Sample]:
    return cut(entries(data / "nuclei", ["train"]), replace(CARD, **more))


def test_a_small_image_is_one_window_enlarged_as_in_use(data: Path) -> None:
    found = samples(data)
    assert len(found) == 3
    view = Reader().read(found[0])
    assert view.image.shape == (512, 512, 3)
    assert found[0].window.scale == (0.5, 0.5)
    assert found[0].numbers == (1, 2)
    _, labels = found[0].entry.read()
    for number in (1, 2):
        assert (view.labels == number).sum() == 4 * (labels == number).sum()
    # Pixels and labels lie on each other: the discs are dark.
    dark = view.image.mean(2)
    assert dark[view.labels > 0].mean() + 60 < dark[(view.labels == 0) & (dark < 235)].mean()


def test_each_object_of_a_large_image_is_asked_for_once(
    data: Path, paint: Callable, write_set: Callable, write_splits: Callable
) -> None:
    discs = [(x, y, 9) for x in range(30, 1300, 90) for y in range(30, 900, 90)]
    write_set(data / "nuclei", {"own_0": paint(900, 1300, *discs)})
    write_splits(data, {"nuclei": {"train": ["own_0"]}})
    found = samples(data)
    numbers = [n for sample in found for n in sample.numbers]
    assert sorted(numbers) == list(range(1, len(discs) + 1))
    for sample in found:
        left, top, right, bottom = sample.window.bounds
        assert min(left, top) >= 0
        assert right <= 1300 + 1e-6
        assert bottom <= 900 + 1e-6
        for n in sample.numbers:
            x, y, r = discs[n - 1]
            assert left <= x - r < x + r <= right
            assert top <= y - r < y + r <= bottom


def test_the_card_s_scale_counts_where_both_know_it(data: Path) -> None:
    entry = replace(entries(data / "nuclei", ["train"])[0], mpp=0.5)
    (sample,) = cut([entry], replace(CARD, mpp=0.25))
    assert sample.window.scale == (0.5, 0.5)
    (sample,) = cut([entry], replace(CARD, mpp=0.5))
    assert sample.window.scale == (1.0, 1.0)


def test_what_is_not_labelled_is_not_the_object_that_is_meant(data: Path) -> None:
    before = Reader().read(samples(data)[0])
    (data / "nuclei" / "ignore").mkdir()
    unknown = np.full((100, 96), 255, np.uint8)
    cv2.imwrite(str(data / "nuclei" / "ignore" / "own_0.png"), unknown)
    after = Reader().read(samples(data)[0])
    np.testing.assert_array_equal(before.labels, after.labels)


def test_empty_masks_are_left_out_and_told_and_nothing_else_is_refused(data: Path) -> None:
    told: list[str] = []
    mask = data / "nuclei" / "masks" / "own_1.png"
    cv2.imwrite(str(mask), np.zeros((100, 96), np.uint16))
    found = cut(entries(data / "nuclei", ["train"]), CARD, told.append)
    assert [sample.entry.name for sample in found] == ["own_0", "own_2"]
    assert told == ["own_1 shows no object and is left out."]
    only = [one for one in entries(data / "nuclei", ["train"]) if one.name == "own_1"]
    with pytest.raises(InputError, match=r"No mask shows an object \(own_1\)"):
        cut(only, CARD)


def test_a_damaged_image_is_found_before_training(data: Path) -> None:
    (data / "nuclei" / "images" / "own_2.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"own_2.png is missing or no image"):
        samples(data)


def test_questions_show_the_object_and_their_prompts_hit_it(data: Path) -> None:
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    sample = samples(data)[0]
    view = Reader().read(sample)
    for seed in range(40):
        made = question(model, view, 1, 3, np.random.default_rng(seed))
        assert made is not None
        truth = made.asked.truth
        assert truth.shape == (made.place.height, made.place.width)
        assert made.window == 3
        whole = (view.labels == 1).sum() / made.place.factor**2
        assert made.area == pytest.approx(whole, rel=0.2, abs=6)
        for (x, y), label in zip(made.asked.points, made.asked.labels, strict=True):
            near = truth[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
            assert label == 1
            assert near.any()
        if made.asked.box is not None:
            left, top, right, bottom = made.asked.box
            ys, xs = np.nonzero(truth)
            assert abs(left - xs.min()) < 6
            assert abs(bottom - ys.max()) < 6
            assert right > left
            assert bottom > top


def test_the_same_seed_asks_the_same(data: Path) -> None:
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    view = Reader().read(samples(data)[0])
    first, second = (question(model, view, 2, 0, np.random.default_rng(5)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.place == second.place
    assert first.asked.points == second.asked.points
    clicks = plain_questions(model, view, 1, 0, np.random.default_rng(0), "click")
    assert [one.place.octave for one in clicks] == [0, 1, 2, 3][: len(clicks)]
    assert all(one.asked.ambiguous for one in clicks)
    (box,) = plain_questions(model, view, 1, 0, np.random.default_rng(0), "box")
    assert box.asked.box is not None
    assert plain_questions(model, view, 9, 0, np.random.default_rng(0), "box") == []


def test_turning_moves_image_and_labels_together() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, (32, 32)).astype(np.int32)
    image = np.repeat(labels[..., None] * 40, 3, 2).astype(np.uint8)
    view = View(image, labels)
    seen = set()
    for seed in range(30):
        out = turned(view, np.random.default_rng(seed))
        np.testing.assert_array_equal(out.image[..., 0], out.labels * 40)
        seen.add(out.labels.tobytes())
    assert len(seen) == 8


def test_a_model_of_two_scales_gets_both_windows_around_one_centre(data: Path) -> None:
    (sample, *_) = samples(data, window_px=64, window_scales=(1.0, 2.0))
    view = Reader().read(sample)
    (wider,) = view.wider
    assert [image.shape for image in view.images] == [(64, 64, 3)] * 2
    # The middle of the coarser window shows what the fine one shows, at half the size.
    fine, middle = view.image[::2, ::2].astype(int), wider.image[16:48, 16:48].astype(int)
    assert np.abs(fine - middle).mean() < 12
    assert (view.labels[::2, ::2] == wider.labels[16:48, 16:48]).mean() > 0.9
    for number in np.unique(view.labels)[1:]:
        assert number in wider.labels
    # All windows are laid down and coloured alike.
    out = turned(view, np.random.default_rng(3), lambda image, _: 255 - image)
    assert [image.shape for image in out.images] == [(64, 64, 3)] * 2
    fine, middle = out.image[::2, ::2].astype(int), out.wider[0].image[16:48, 16:48].astype(int)
    assert np.abs(fine - middle).mean() < 12
    assert (out.labels[::2, ::2] == out.wider[0].labels[16:48, 16:48]).mean() > 0.9
    assert (np.sort(out.image, None) == np.sort(255 - view.image, None)).all()


def test_a_model_that_takes_boxes_only_is_asked_by_boxes_at_their_scale(data: Path) -> None:
    card = {"prompts": ("box",), "object_px": (30.0, 60.0), "window_px": 128}
    found = samples(data, **card)
    assert {sample.window.scale[0] for sample in found} == {0.5, 1.0}
    for sample in found:
        view = Reader().read(sample)
        for number in sample.numbers:
            rows, columns = np.nonzero(view.labels == number)
            assert 30 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 60
    model = build_trainable(ModelRegistry(offline_dirs=[]), "histosam-small", "decoder")
    model.card = replace(CARD, prompts=("box",))
    view = Reader().read(samples(data)[0])
    whole = set()
    for seed in range(8):
        made = question(model, view, 2, 0, np.random.default_rng(seed))
        assert made is not None
        assert made.asked.box is not None
        assert not made.asked.points
        assert made.asked.previous is None
        assert made.asked.corrections == 0
        rows, columns = np.nonzero(view.labels == 2)
        corner = np.array([made.place.left, made.place.top])
        at = (made.asked.box.reshape(2, 2) + corner) * made.place.factor
        assert (at[0] <= (columns.min() + 1, rows.min() + 1)).all()
        assert (at[1] >= (columns.max(), rows.max())).all()
        whole.add(tuple(at.ravel()))
    assert len(whole) > 4
    assert plain_questions(model, view, 2, 0, np.random.default_rng(0), "click") == []
    assert plain_questions(model, view, 2, 0, np.random.default_rng(0), "box")
