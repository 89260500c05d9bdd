"""Bands: a mask traced in pieces gives the very parts that it has as a whole."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_histosam.geometry.scan import fill
from napari_histosam.geometry.seams import BandTracer


def traced(mask, cuts, values=()):
    tracer = BandTracer(mask.shape[1])
    edges = [0, *sorted(cuts), mask.shape[0]]
    found = []
    for top, bottom in pairwise(edges):
        found += tracer.add(mask[top:bottom], [value[top:bottom] for value in values])
    return [*found, *tracer.end()]


def check(mask, cuts) -> None:
    values = np.arange(mask.size, dtype=np.float64).reshape(mask.shape)
    found = traced(mask, cuts, [values])
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(found) == count - 1
    seen = set()
    for part in found:
        assert part.outline.is_valid
        own = fill(np.zeros(mask.shape, bool), [part.outline], [True])
        label = int(labels[own][0])
        assert np.array_equal(own, labels == label)
        assert part.pixels == own.sum()
        assert part.sums == (values[own].sum(),)
        seen.add(label)
    assert len(seen) == count - 1


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sets(st.integers(1, 29), max_size=4), st.floats(0.2, 0.8))
def test_noise_in_bands_gives_the_parts_of_the_whole(seed, cuts, share) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((30, 34)) < share
    if seed % 2:
        mask = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 0) > 0.5
    check(mask, cuts)


@pytest.mark.parametrize("cuts", [(), (7,), (50, 51, 52), range(5, 100, 5)])
def test_rings_combs_and_spirals(cuts) -> None:
    mask = np.zeros((100, 120), np.uint8)
    cv2.circle(mask, (60, 50), 45, 1, 6)
    cv2.circle(mask, (60, 50), 25, 1, -1)
    cv2.circle(mask, (60, 50), 9, 0, -1)
    mask[10:90:8, 2:8] = 1
    mask[10:90, 2:4] = 1
    check(mask > 0, list(cuts))


def test_where_it_is_cut_makes_no_difference_to_the_shapes() -> None:
    rng = np.random.default_rng(3)
    mask = cv2.GaussianBlur(rng.random((200, 200)).astype(np.float32), (0, 0), 6) > 0.5
    whole = [p.outline for p in traced(mask, ())]
    pieces = [p.outline for p in traced(mask, (20, 77, 78, 160))]
    assert len(whole) == len(pieces) > 5
    assert shapely.equals(shapely.union_all(whole), shapely.union_all(pieces))


def test_no_rows_and_nothing_set() -> None:
    tracer = BandTracer(5)
    assert list(tracer.add(np.ones((2, 5), bool))) == []
    assert list(tracer.add(np.zeros((0, 5), bool))) == []
    (one,) = tracer.add(np.zeros((3, 5), bool))
    assert one.pixels == 10
    assert list(tracer.end()) == []
