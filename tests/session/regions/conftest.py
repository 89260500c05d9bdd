"""The stand-ins of `region_tints` as fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_histosam.slide import open_array

if TYPE_CHECKING:
    import numpy as np
from region_tints import Dazzled, Tinter, landscape, tint


@pytest.fixture
def tinter() -> Tinter:
    return Tinter()


@pytest.fixture
def make_tinter():
    return Tinter


@pytest.fixture
def dazzled() -> Dazzled:
    return Dazzled()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return landscape(1500, 1250)


@pytest.fixture
def land(picture):
    with open_array([picture], (0.5, 0.5), "land") as slide:
        yield slide


@pytest.fixture
def paint():
    return landscape


@pytest.fixture
def likely():
    return tint
