"""Objects to put into stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import shapely

from napari_histosam.records import SlideObject
from napari_histosam.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def square(x: float, y: float, side: float = 10.0, **more: Any) -> SlideObject:
    return SlideObject(shapely.box(x, y, x + side, y + side), **more)


@pytest.fixture
def make() -> Callable[..., SlideObject]:
    return square


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    path = tmp_path / "slide.svs.histosam.sqlite" if request.param == "file" else None
    with ObjectStore.open(
        path, slide_identity="s1", slide_name="slide.svs", author="Ada"
    ) as opened:
        yield opened
        assert opened.integrity_check() == []
