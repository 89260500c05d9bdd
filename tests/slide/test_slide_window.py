"""Windows at any µm per px, and the pixel size that the user has to give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.slide import open_array, open_slide
from napari_histosam.slide.units import as_number, micrometres, mpp_from_density, plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path


def test_at_the_slides_own_mpp_a_window_is_the_region(sample: Path) -> None:
    with open_slide(sample) as slide:
        got = slide.read_window(1000, 1200, 0.499, 256)
        np.testing.assert_array_equal(got, slide.read_region(872, 1072, 0, 256, 256))


def test_half_resolution_is_the_2x2_mean(sample: Path) -> None:
    with open_slide(sample) as slide:
        got = slide.read_window(1000, 1200, 0.998, (200, 100))
        fine = slide.read_region(800, 1100, 0, 400, 200).reshape(100, 2, 200, 2, 3)
        np.testing.assert_array_equal(got, np.floor(fine.mean(axis=(1, 3)) + 0.5))


def test_background_takes_part_in_the_mean(sample: Path) -> None:
    with open_slide(sample) as slide:
        got = slide.read_window(-100, 0, 4, 64)
        assert got.shape == (64, 64, 3)
        assert (got[:, :10] == 255).all()
        assert (got[:30] == 255).all()
        assert (slide.read_window(-5000, 0, 4, 64) == 255).all()


def test_the_nearest_finer_level_is_read(halves: list[np.ndarray]) -> None:
    marked = [np.full_like(h, 10 * (i + 1)) for i, h in enumerate(halves)]
    slide = open_array(marked, (0.25, 0.25), "marked")
    for mpp, value in [(0.1, 10), (0.25, 10), (0.49, 10), (0.5, 20), (0.9, 20), (1.0, 30), (3, 30)]:
        assert (slide.read_window(300, 300, mpp, 16) == value).all(), mpp


def test_a_coarse_window_is_the_mean_of_the_level(halves: list[np.ndarray]) -> None:
    slide = open_array(halves[:1], (0.5, 0.5), "one")
    window = Window(300.25, 350.5, (5.3, 4.7), (40, 30))
    got = slide.read(window)
    left, top, _, _ = window.bounds
    for j, i in [(0, 0), (7, 3), (29, 39), (15, 20)]:
        x0, y0 = left + i * 5.3, top + j * 4.7
        xs, ys = np.arange(611), np.arange(700)
        wx = np.clip(np.minimum(x0 + 5.3, xs + 1) - np.maximum(x0, xs), 0, None)
        wy = np.clip(np.minimum(y0 + 4.7, ys + 1) - np.maximum(y0, ys), 0, None)
        want = np.einsum("y,x,yxc->c", wy, wx, halves[0].astype(float)) / (5.3 * 4.7)
        assert np.abs(got[j, i] - want).max() <= 0.5 + 1e-3


def test_a_large_window_is_put_together_from_blocks(
    halves: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_histosam.slide.slide as module

    slide = open_array(halves[:1], None, "one")
    for scale in [(1.0, 1.0), (1.7, 1.7), (0.6, 0.6), (3.0, 0.5)]:
        window = Window(300.3, 340.7, scale, (300, 280))
        whole = slide.read(window)
        with monkeypatch.context() as patch:
            patch.setattr(
                module, "_pieces", lambda n, s, b: [(i, min(41, n - i)) for i in range(0, n, 41)]
            )
            pieces = slide.read(window)
        # Summing in another order may turn a tie: one step of 255 at most.
        assert np.abs(whole.astype(int) - pieces).max() <= 1


def test_not_square_px_give_square_windows(ome_pyramid: Path, halves: list[np.ndarray]) -> None:
    with open_slide(ome_pyramid) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.5))
        window = slide.window(300, 300, 0.5, 100)
        assert window.scale == pytest.approx((2.0, 1.0))
        got = slide.read(window)
        fine = halves[0][250:350, 200:400].reshape(100, 100, 2, 3)
        np.testing.assert_array_equal(got, np.floor(fine.mean(axis=2) + 0.5))


def test_an_empty_window_is_refused(sample: Path) -> None:
    with open_slide(sample) as slide:
        for size in (0, (5, -1)):
            with pytest.raises(InputError, match="empty"):
                slide.read_window(5, 5, 0.5, size)
        nan = float("nan")
        for window in (Window(5, 5, (nan, 1.0), (5, 5)), Window(nan, 5, (1.0, 1.0), (5, 5))):
            with pytest.raises(InputError, match="empty"):
                slide.read(window)


def test_a_pixel_size_is_asked_once_and_remembered(tmp_path: Path, tissue: np.ndarray) -> None:
    Image.fromarray(tissue).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        assert slide.mpp is None
        with pytest.raises(InputError, match="set µm per pixel"):
            slide.read_window(300, 300, 0.5, 64)
        for bad in (0, -1, 1e-3, 5000, float("nan"), "wide"):
            with pytest.raises(InputError, match="not possible"):
                slide.set_mpp(bad)  # type: ignore[arg-type]
        slide.set_mpp(0.25, 0.5)
        assert slide.mpp == (0.25, 0.5)
    (tmp_path / "a.png").rename(tmp_path / "moved.png")
    with open_slide(tmp_path / "moved.png") as slide:
        assert slide.mpp == (0.25, 0.5)
        slide.set_mpp(0.3)
    with open_slide(tmp_path / "moved.png") as slide:
        assert slide.mpp == (0.3, 0.3)
    kept = (tmp_path / "home" / "slides.json").read_text("utf-8")
    assert "moved" not in kept
    assert list(json.loads(kept).values()) == [{"mpp": [0.3, 0.3]}]
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["slides.json"]


def test_what_the_file_says_comes_first(sample: Path) -> None:
    with open_slide(sample) as slide:
        slide.set_mpp(0.25)
        assert slide.mpp == (0.25, 0.25)
    with open_slide(sample) as slide:
        assert slide.mpp == (0.499, 0.499)


def test_a_damaged_memory_does_not_keep_slides_from_opening(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    Image.fromarray(tissue).save(tmp_path / "a.png")
    (tmp_path / "home").mkdir()
    for text in ("{ broken", "[]", "\xff"):
        (tmp_path / "home" / "slides.json").write_text(text, "latin-1")
        with open_slide(tmp_path / "a.png") as slide:
            assert slide.mpp is None
    slide.set_mpp(0.5)
    assert open_slide(tmp_path / "a.png").mpp == (0.5, 0.5)


def test_a_pixel_size_that_cannot_be_kept_is_used_and_said(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = open_array([tissue], None, "layer")
    before = tmp_path / "home" / "slides.json"
    before.write_text("{}")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="cannot be remembered"):
        slide.set_mpp(0.5)
    assert slide.mpp == (0.5, 0.5)
    assert before.read_text() == "{}"
    assert [p.name for p in before.parent.iterdir()] == ["slides.json"]


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (("0.25", "0.26"), (0.25, 0.26)),
        (("0,25", None), (0.25, 0.25)),
        ((None, "0.5"), (0.5, 0.5)),
        (("0", "0.5"), (0.5, 0.5)),
        (("-0.5", "abc"), None),
        (("", None), None),
        (("nan", "inf"), None),
        ((5e4, 5e4), None),
    ],
)
def test_traps_of_stated_pixel_sizes(given: Any, want: Any) -> None:
    assert plausible_mpp(*given) == want


def test_units() -> None:
    for unit, factor in [("µm", 1), ("μm", 1), ("nm", 1e-3), ("Angstrom", 1e-4), ("mm", 1e3)]:
        assert micrometres("2", unit) == pytest.approx(2 * factor)
    assert micrometres(1, "pixel") is None
    assert micrometres(1, None) is None
    assert as_number(" 1.5 ") == 1.5
    assert as_number(None) is None
    assert mpp_from_density(96, 96, 25400) is None
    assert mpp_from_density(28.346, 28.346, 1e4) is None  # 72 dpi in centimetres
    assert mpp_from_density(40000, 40000, 1e4) == (0.25, 0.25)
