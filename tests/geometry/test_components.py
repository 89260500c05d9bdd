"""Tidying masks."""

import numpy as np
import pytest

from napari_histosam.geometry import components


@pytest.fixture
def mask():
    out = np.zeros((20, 30), bool)
    out[2:10, 2:10] = True  # 64 px less a hole of 4
    out[5:7, 5:7] = False
    out[15:18, 20:23] = True  # 9 px
    out[0, 29] = True  # 1 px
    return out


def test_keep_under_points(mask):
    kept = components.keep_under(mask, [[21.9, 15.2]])
    assert kept.sum() == 9
    assert components.keep_under(mask, [[2.0, 2.0], [29.5, 0.5]]).sum() == 61
    assert not components.keep_under(mask, [[15, 12]]).any()
    assert not components.keep_under(mask, [[-1, 3], [30, 0], [3, 20]]).any()
    assert not components.keep_under(mask, np.empty((0, 2))).any()


def test_largest_and_islands(mask):
    assert components.largest(mask).sum() == 60
    assert components.remove_islands(mask, 9).sum() == 69
    assert components.remove_islands(mask, 10).sum() == 60
    assert not components.largest(np.zeros((3, 3), bool)).any()


def test_holes_by_size(mask):
    assert components.fill_small_holes(mask, 3).sum() == mask.sum()
    assert components.fill_small_holes(mask, 4).sum() == mask.sum() + 4
    assert components.fill_small_holes(mask).sum() == mask.sum() + 4


def test_a_bay_at_the_border_is_no_hole():
    bay = np.ones((5, 5), bool)
    bay[2, 2:] = False
    assert np.array_equal(components.fill_small_holes(bay), bay)
    assert not components.fill_small_holes(np.zeros((4, 4), bool)).any()
    assert components.fill_small_holes(np.ones((4, 4), bool)).all()


def test_smooth_removes_spikes_but_not_objects_cut_by_the_border():
    cut = np.zeros((40, 40), bool)
    cut[:, :20] = True
    spiked = cut.copy()
    spiked[20, 20:30] = True
    assert np.array_equal(components.smooth_mask(spiked, 3), cut)
    speck = np.zeros((20, 20), bool)
    speck[10, 10] = True
    assert np.array_equal(components.smooth_mask(speck, 4), speck)
    assert np.array_equal(components.smooth_mask(spiked, 0), spiked)


def test_inputs_are_not_changed(mask):
    before = mask.copy()
    components.smooth_mask(mask, 2)
    components.fill_small_holes(mask)
    components.keep_under(mask, [[3, 3]])
    assert np.array_equal(mask, before)


def test_views_that_are_not_contiguous_work(mask):
    assert components.largest(mask[::-1, ::2].T).any()
