"""The optimistic pyramid: answers at once, becomes exact, never mixes up tiles."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.viewer.pyramid import OptimisticPyramid


class Tiles:
    """A pyramid whose pixel values are known: level, row and column tell them."""

    def __init__(self, shape=(1300, 1700), tile=128, levels=4, channels=3, gate=None):
        self.tile = tile
        self.channels = channels
        self.shapes = [(-(-shape[0] // 2**i), -(-shape[1] // 2**i)) for i in range(levels)]
        self.gate = gate
        self.reads: list[tuple[int, int, int]] = []
        self.offset = 0

    def whole(self, level):
        h, w = self.shapes[level]
        return self.part(level, 0, h, 0, w)

    def part(self, level, y0, y1, x0, x1):
        h, w = self.shapes[level]
        y, x = np.mgrid[y0 : min(y1, h), x0 : min(x1, w)]
        plane = (y * 7 + x * 3 + level * 50 + self.offset) % 251
        out = plane.astype(np.uint8)
        return np.stack([out, out // 2, 255 - out], -1) if self.channels else out

    def read_tile(self, level, row, col):
        if self.gate is not None and level < len(self.shapes) - 1:
            self.gate.wait(10)
        self.reads.append((level, row, col))
        t = self.tile
        return self.part(level, row * t, (row + 1) * t, col * t, (col + 1) * t)


class Later:
    """A dispatcher that keeps calls until they are asked for."""

    def __init__(self):
        self.calls = []
        self.lock = threading.Lock()

    def call(self, func):
        with self.lock:
            self.calls.append(func)

    def later(self, seconds, func):
        self.call(func)

    def run(self):
        with self.lock:
            calls, self.calls = self.calls, []
        for func in calls:
            func()


def settle(pyramid, timeout=10.0):
    end = time.monotonic() + timeout
    while not pyramid.idle:
        assert time.monotonic() < end
        time.sleep(0.002)


@settings(max_examples=40)
@given(
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0, 3]),
)
def test_without_a_dispatcher_any_slice_is_exact(level, a, b, c, d, channels):
    tiles = Tiles(channels=channels)
    pyramid = OptimisticPyramid(tiles, None, channels=channels)
    h, w = tiles.shapes[level]
    y0, y1 = sorted((int(a * h), int(b * h)))
    x0, x1 = sorted((int(c * w), int(d * w)))
    got = pyramid.levels[level][y0:y1, x0:x1]
    np.testing.assert_array_equal(got, tiles.whole(level)[y0:y1, x0:x1])
    pyramid.close()


def test_answers_at_once_with_the_coarse_and_then_exactly():
    gate = threading.Event()
    tiles, later = Tiles(gate=gate), Later()
    pyramid = OptimisticPyramid(tiles, later)
    settle(pyramid)
    improved = []
    pyramid.improved.connect(lambda: improved.append(1))
    first = pyramid.levels[0][100:700, 200:900]
    # Nothing but the coarsest level is known: its pixels, enlarged.
    coarse = tiles.whole(3)
    ys = ((np.arange(100, 700) + 0.5) * coarse.shape[0] / 1300).astype(int)
    xs = ((np.arange(200, 900) + 0.5) * coarse.shape[1] / 1700).astype(int)
    np.testing.assert_array_equal(first, coarse[ys[:, None], xs])
    gate.set()
    settle(pyramid)
    later.run()
    assert improved
    np.testing.assert_array_equal(
        pyramid.levels[0][100:700, 200:900], tiles.whole(0)[100:700, 200:900]
    )
    pyramid.close()


def test_indexing_like_numpy():
    tiles = Tiles(channels=3)
    pyramid = OptimisticPyramid(tiles, None)
    level, whole = pyramid.levels[1], tiles.whole(1)
    np.testing.assert_array_equal(level[5], whole[5])
    np.testing.assert_array_equal(level[..., 0], whole[..., 0])
    np.testing.assert_array_equal(level[-3:, ::7, 1], whole[-3:, ::7, 1])
    np.testing.assert_array_equal(level[10, 20], whole[10, 20])
    assert level[5:5, :].shape == (0, *whole.shape[1:])
    with pytest.raises(IndexError):
        level[10**6]
    np.testing.assert_array_equal(np.asarray(level), whole)
    assert (level.ndim, level.size, level.dtype) == (3, whole.size, np.uint8)
    pyramid.close()


def test_outdated_tiles_are_made_anew_wherever_they_are_looked_at():
    tiles, later = Tiles(channels=0), Later()
    pyramid = OptimisticPyramid(tiles, later, channels=0)
    for level in (0, 1, 3):
        pyramid.levels[level][0:256, 0:256]
        settle(pyramid)
    tiles.offset = 40
    keys = [(level, r, c) for level in range(4) for r in range(2) for c in range(2)]
    pyramid.outdate(keys)
    settle(pyramid)
    for level in (0, 1, 3):
        pyramid.levels[level][0:256, 0:256]
        settle(pyramid)
        size = min(256, *tiles.shapes[level])
        np.testing.assert_array_equal(
            pyramid.levels[level][0:size, 0:size], tiles.whole(level)[0:size, 0:size]
        )
    pyramid.close()


def test_the_coarsest_array_that_napari_keeps_follows_edits():
    tiles, later = Tiles(channels=0), Later()
    pyramid = OptimisticPyramid(tiles, later, channels=0)
    settle(pyramid)
    kept = np.asarray(pyramid.levels[-1])
    np.testing.assert_array_equal(kept, tiles.whole(3))
    tiles.offset = 99
    pyramid.outdate_all()
    settle(pyramid)
    np.testing.assert_array_equal(kept, tiles.whole(3))
    pyramid.close()


def test_bytes_stay_within_the_budget():
    tiles, later = Tiles(shape=(4000, 4000)), Later()
    budget = 1 << 20
    pyramid = OptimisticPyramid(tiles, later, max_bytes=budget)
    for start in range(0, 3500, 250):
        pyramid.levels[0][start : start + 500, start : start + 500]
        settle(pyramid)
    base = np.asarray(pyramid.levels[-1]).nbytes
    assert pyramid.nbytes - base <= budget + 128 * 128 * 3
    pyramid.close()


def test_views_long_past_are_not_loaded():
    gate = threading.Event()
    tiles, later = Tiles(shape=(6000, 6000), gate=gate), Later()
    pyramid = OptimisticPyramid(tiles, later)
    for start in range(0, 5000, 1000):
        pyramid.levels[0][start : start + 300, start : start + 300]
    gate.set()
    settle(pyramid)
    rows = {row for level, row, _ in tiles.reads if level == 0}
    # Two threads may have held a tile of the first views; the views between are skipped.
    assert not rows & set(range(2000 // 128 + 1, 2300 // 128))
    assert set(range(4000 // 128, 4300 // 128)) <= rows
    pyramid.close()


def test_a_tile_that_cannot_be_read_leaves_the_coarse_one():
    class Broken(Tiles):
        def read_tile(self, level, row, col):
            if level == 0:
                raise OSError("the network drive is gone")
            return super().read_tile(level, row, col)

    tiles, later = Broken(), Later()
    pyramid = OptimisticPyramid(tiles, later)
    settle(pyramid)
    before = pyramid.levels[0][0:200, 0:200]
    settle(pyramid)
    np.testing.assert_array_equal(pyramid.levels[0][0:200, 0:200], before)
    pyramid.close()


def test_a_level_too_large_for_one_array_is_refused():
    class Huge:
        tile = 512
        shapes = ((80_000, 100_000), (900, 1000))

        def read_tile(self, level, row, col):
            t = self.tile
            h, w = self.shapes[level]
            return np.zeros((min(t, h - row * t), min(t, w - col * t), 3), np.uint8)

    pyramid = OptimisticPyramid(Huge(), None)
    with pytest.raises(InputError, match="100000 x 80000"):
        np.asarray(pyramid.levels[0])
    pyramid.close()
