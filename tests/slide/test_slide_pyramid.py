"""The display pyramid: its levels, its tiles put together, and what a tile may cost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.slide import DisplayPyramid, Slide, TileCache, open_array, open_slide

if TYPE_CHECKING:
    from pathlib import Path


def assembled(pyramid: DisplayPyramid, level: int) -> np.ndarray:
    rows, cols = pyramid.grid(level)
    return np.vstack(
        [np.hstack([pyramid.read_tile(level, r, c) for c in range(cols)]) for r in range(rows)]
    )


def halved(image: np.ndarray) -> np.ndarray:
    h, w = image.shape[:2]
    even = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge").astype(int)
    sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)


def check(slide: Slide, tile: int) -> DisplayPyramid:
    pyramid = slide.pyramid(tile)
    before: np.ndarray | None = None
    for i, level in enumerate(pyramid.levels):
        got = assembled(pyramid, i)
        assert got.shape[:2] == level.shape == pyramid.shapes[i]
        if level.real is not None:
            real = slide.levels[level.real]
            assert level.scale == real.scale == pyramid.scales[i]
            want = slide.read_level(level.real, 0, 0, real.width, real.height)
        else:
            assert before is not None
            want = halved(before)
        np.testing.assert_array_equal(got, want)
        before = got
    return pyramid


@pytest.mark.parametrize("tile", [256, 512, 300])
def test_tiles_of_the_sample_put_together(sample: Path, tile: int) -> None:
    with open_slide(sample) as slide:
        pyramid = check(slide, tile)
        assert pyramid.shapes == [(2967, 2220), (1484, 1110), (742, 555)]
        assert pyramid.scales == [(1, 1), (2, 2), (4, 4)]
        assert [lv.real for lv in pyramid.levels] == [0, None, None]


def test_tiles_of_every_shared_slide_put_together(shared: Path) -> None:
    for name in (
        "real/test3-DAPI-2-387.ndpi",
        "real/camelyon16_lowres_jpeg.dcm",
        "derived/cmu1_generic_pyramid.tif",
        "derived/cmu1_leica_like.scn",
        "derived/cmu1_philips_like.tiff",
        "derived/cmu1_pyramid.ome.tif",
        "derived/cmu1_v04.ome.zarr",
    ):
        with open_slide(shared / name) as slide:
            pyramid = check(slide, 512)
            assert max(pyramid.shapes[-1]) <= 1024 or len(slide.levels) > 1
            areas = [h * w for h, w in pyramid.shapes]
            assert areas == sorted(set(areas), reverse=True)


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 90), w=st.integers(1, 90), tile=st.integers(5, 40))
def test_any_size_and_tile(h: int, w: int, tile: int) -> None:
    image = np.random.default_rng(h * 100 + w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_histosam.slide.pyramid.COARSEST_PX", 7)
        patch.setattr("napari_histosam.slide.pyramid._exact_depth", lambda _: 99)
        pyramid = check(open_array([image], (1, 1), "random"), tile)
    assert max(pyramid.shapes[-1]) <= 7


def test_gaps_between_real_levels_are_filled() -> None:
    sizes = [2000, 500, 470, 125]
    slide = open_array([np.zeros((n, n, 3), np.uint8) for n in sizes], (1, 1), "gaps")
    levels = slide.pyramid().levels
    assert [(lv.shape[0], lv.real, lv.depth) for lv in levels] == [
        (2000, 0, 0),
        (1000, None, 1),
        (500, 1, 0),
        (250, None, 1),
        (125, 3, 0),
    ]


def test_no_such_tile(sample: Path) -> None:
    with open_slide(sample) as slide:
        pyramid = slide.pyramid()
        for at in [(0, 6, 0), (0, 0, 5), (3, 0, 0), (0, -1, 0), (-1, 0, 0)]:
            with pytest.raises(InputError, match="no tile"):
                pyramid.read_tile(*at)


def test_tiles_come_from_the_cache_and_cannot_be_spoilt(sample: Path) -> None:
    with open_slide(sample) as slide:
        cache = TileCache(50_000_000)
        pyramid = slide.pyramid(256, cache)
        assert pyramid.cached_tile(1, 0, 0) is None
        first = pyramid.read_tile(1, 0, 0)
        assert pyramid.read_tile(1, 0, 0) is first
        assert pyramid.cached_tile(1, 0, 0) is first
        assert pyramid.cached_tile(0, 1, 1) is not None  # its part was kept too
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 0
        other = slide.pyramid(128, cache)
        other.read_tile(2, 0, 0)
        pyramid.forget()
        assert cache.nbytes > 0
    # Closing the slide gives the memory of its other pyramids back.
    assert len(cache) == cache.nbytes == 0


class Counted:
    """An array that remembers how much of it was read."""

    dtype, ndim = np.dtype(np.uint8), 3

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = (*shape, 3)
        self.reads: list[int] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, cols = key[:2]
        y, x = np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)
        out = np.empty((len(y), len(x), 3), np.uint8)
        out[..., 0] = (x * 200 // self.shape[1])[None]
        out[..., 1] = (y * 200 // self.shape[0])[:, None]
        out[..., 2] = 90
        self.reads.append(out[..., 0].size)
        return out


def test_a_huge_slide_without_levels_costs_a_bounded_number_of_reads() -> None:
    array = Counted((40_000, 60_000))
    slide = open_array([array], (0.25, 0.25), "huge")
    pyramid = slide.pyramid(512)
    assert max(pyramid.shapes[-1]) <= 1024
    assert pyramid.exact_depth == 3
    for level in range(len(pyramid.levels)):
        array.reads.clear()
        tile = pyramid.read_tile(level, 0, 0)
        assert len(array.reads) <= 256
        assert sum(array.reads) <= 64 * 512 * 512
        assert pyramid.is_exact(level, 0, 0) == (level <= 3)
        # The sketch shows the right colours in the right places (here a slow ramp).
        h, w = tile.shape[:2]
        scale = pyramid.scales[level][0]
        assert abs(int(tile[h // 2, w // 2, 0]) - w / 2 * scale * 200 / 60_000) < 8
        assert abs(int(tile[h // 2, w // 2, 1]) - h / 2 * scale * 200 / 40_000) < 8
    array.reads.clear()
    thumb = slide.thumbnail(1000)
    assert thumb.shape == (667, 1000, 3)
    assert len(array.reads) <= 2500
    assert max(array.reads) <= 128 * 128
    assert abs(int(thumb[333, 500, 0]) - 100) < 4


def test_building_makes_sketches_exact_in_one_pass() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1500, 2100, 3), dtype=np.uint8)
    reads = []

    class Once(Counted):
        def __getitem__(self, key: Any) -> np.ndarray:
            reads.append(1)
            return image[key]

    slide = open_array([Once((1500, 2100))], (1, 1), "big")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_histosam.slide.pyramid.COARSEST_PX", 40)
        pyramid = slide.pyramid(64)
    assert len(pyramid.levels) == 7
    assert not pyramid.is_exact(4, 0, 0)
    sketched = assembled(pyramid, 5)
    reads.clear()
    done: list[float] = []
    assert not pyramid.build(stop=lambda: len(done) > 1, progress=done.append)
    assert pyramid.build(progress=done.append)
    assert done[-1] == 1
    assert len(reads) <= pyramid.grid(0)[0] * pyramid.grid(0)[1]
    want = image
    for level in range(1, 7):
        want = halved(want)
        np.testing.assert_array_equal(assembled(pyramid, level), want)
        assert pyramid.is_exact(level, 0, 0)
    assert (assembled(pyramid, 5) != sketched).any()


def test_the_cache_keeps_to_its_bytes_and_drops_the_oldest() -> None:
    cache = TileCache(1000)
    for i in range(5):
        cache.put(("a", i), np.zeros(300, np.uint8))
    assert cache.nbytes <= 1000
    assert len(cache) == 3
    assert cache.get(("a", 1)) is None
    assert cache.get(("a", 4)) is not None
    assert cache.get(("a", 2)) is not None
    cache.put(("b", 0), np.zeros(300, np.uint8))
    assert cache.get(("a", 3)) is None
    assert cache.get(("a", 2)) is not None
    assert cache.put("huge", np.zeros(2000, np.uint8)).size == 2000
    assert cache.get("huge") is None
    cache.put(("b", 0), np.zeros(10, np.uint8))
    cache.drop("a")
    assert cache.nbytes == 10
    assert len(cache) == 1


def test_threads_that_want_the_same_tile_make_it_once() -> None:
    cache, made, gate = TileCache(10_000), [], threading.Barrier(8)

    def make() -> np.ndarray:
        made.append(1)
        threading.Event().wait(0.05)
        return np.arange(10)

    def ask(_: int) -> int:
        gate.wait()
        return int(cache.get_or_make("k", make).sum())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {45}
    assert len(made) == 1

    def fail() -> np.ndarray:
        raise InputError("no")

    with pytest.raises(InputError):
        cache.get_or_make("f", fail)
    assert cache.get_or_make("f", make).size == 10


def test_tiles_from_many_threads(sample: Path) -> None:
    with open_slide(sample) as slide:
        alone = slide.pyramid(128, TileCache(2**28))
        want = [assembled(alone, i) for i in range(3)]
        # A cache that is far too small: tiles come and go under the threads' hands.
        busy = slide.pyramid(128, TileCache(300_000))
        jobs = [
            (i, r, c)
            for i in range(3)
            for r in range(busy.grid(i)[0])
            for c in range(busy.grid(i)[1])
        ]

        def same(job: tuple[int, int, int]) -> bool:
            i, r, c = job
            part = want[i][r * 128 : r * 128 + 128, c * 128 : c * 128 + 128]
            return bool((busy.read_tile(i, r, c) == part).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(same, jobs + jobs[::-1]))
