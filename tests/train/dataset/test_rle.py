"""Run lengths give the mask back, in the order that COCO counts in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_histosam.train.dataset import rle

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(hnp.arrays(bool, shapes))
def test_decode_gives_back_what_encode_took(mask: np.ndarray) -> None:
    code = rle.encode(mask)
    assert sum(code["counts"]) == mask.size
    assert sum(code["counts"][1::2]) == mask.sum()
    assert np.array_equal(rle.decode(code), mask)


def test_runs_go_down_the_columns() -> None:
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert rle.encode(mask) == {"size": [2, 3], "counts": [1, 3, 2]}
    assert rle.encode(~mask) == {"size": [2, 3], "counts": [0, 1, 3, 2]}


def test_counts_that_do_not_fill_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fill 2 x 2"):
        rle.decode({"size": [2, 2], "counts": [1, 2]})
