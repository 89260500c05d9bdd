"""What every back end promises, asked of each of them."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_histosam.errors import InputError
from napari_histosam.slide import Slide, TileSource, open_array, open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ["openslide", "tifffile", "zarr-0.4", "zarr-0.5", "pillow", "array", "dask"]


@pytest.fixture(params=KINDS)
def slide(
    request: pytest.FixtureRequest,
    sample: Path,
    ome_pyramid: Path,
    ome_zarrs: dict[str, Path],
    halves: list[np.ndarray],
    tissue: np.ndarray,
    tmp_path: Path,
) -> Iterator[Slide]:
    kind = request.param
    if kind == "openslide":
        made = open_slide(sample)
    elif kind == "tifffile":
        made = open_slide(ome_pyramid)
    elif kind.startswith("zarr"):
        made = open_slide(ome_zarrs[kind[5:]])
    elif kind == "pillow":
        Image.fromarray(tissue).save(tmp_path / "a.png")
        made = open_slide(tmp_path / "a.png")
    elif kind == "array":
        made = open_array(halves, (0.5, 0.5), "layer")
    else:
        import dask.array as da

        made = open_array([da.from_array(h, chunks=(100, 100, 3)) for h in halves], None, "lazy")
    with made:
        yield made


def test_it_is_a_tile_source_that_describes_itself(slide: Slide) -> None:
    assert isinstance(slide.source, TileSource)
    first = slide.levels[0]
    assert first.downsample == 1
    assert first.scale == (1, 1)
    assert (first.height, first.width) == first.shape == (slide.height, slide.width)
    downs = [level.downsample for level in slide.levels]
    assert downs == sorted(downs)
    assert len(slide.identity) >= 32
    assert slide.background == (255, 255, 255)
    assert slide.format
    assert slide.backend
    assert slide.name


def test_a_region_is_that_part_of_the_whole(slide: Slide) -> None:
    whole = slide.read_region(0, 0, 0, slide.width, slide.height)
    assert whole.shape == (slide.height, slide.width, 3)
    assert whole.dtype == np.uint8
    part = slide.read_region(101, 57, 0, 203, 301)
    np.testing.assert_array_equal(part, whole[57:358, 101:304])
    assert part.flags.c_contiguous
    assert part.flags.writeable


def test_outside_is_background(slide: Slide) -> None:
    whole = slide.read_region(0, 0, 0, slide.width, slide.height)
    got = slide.read_region(-30, slide.height - 20, 0, 100, 50)
    assert (got[20:] == 255).all()
    assert (got[:, :30] == 255).all()
    np.testing.assert_array_equal(got[:20, 30:], whole[-20:, :70])
    assert (slide.read_region(slide.width + 500, 0, 0, 9, 9) == 255).all()


def test_every_level_can_be_read_by_its_own_px(slide: Slide) -> None:
    for i, level in enumerate(slide.levels):
        whole = slide.read_level(i, 0, 0, level.width, level.height)
        part = slide.read_level(i, 33, 21, 64, 48)
        np.testing.assert_array_equal(part, whole[21:69, 33:97])


def test_sizes_that_make_no_sense(slide: Slide) -> None:
    assert slide.read_region(5, 5, 0, 0, 7).shape == (7, 0, 3)
    with pytest.raises(InputError, match="size"):
        slide.read_region(0, 0, 0, -1, 5)
    with pytest.raises(InputError, match="no level"):
        slide.read_region(0, 0, len(slide.levels), 5, 5)
    with pytest.raises(InputError, match="no level"):
        slide.as_dask(-1)
    with pytest.raises(InputError, match="no image 'nothing'"):
        slide.associated_image("nothing")


def test_many_threads_read_the_same_px(slide: Slide) -> None:
    rng = np.random.default_rng(3)
    whole = [slide.read_level(i, 0, 0, lv.width, lv.height) for i, lv in enumerate(slide.levels)]
    jobs = []
    for _ in range(120):
        level = int(rng.integers(len(whole)))
        h, w = whole[level].shape[:2]
        jobs.append((level, int(rng.integers(w - 40)), int(rng.integers(h - 40))))

    def same(job: tuple[int, int, int]) -> bool:
        level, x, y = job
        got = slide.read_level(level, x, y, 40, 40)
        return bool((got == whole[level][y : y + 40, x : x + 40]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, jobs))


def test_dask_is_the_level(slide: Slide) -> None:
    for i, level in enumerate(slide.levels):
        lazy = slide.as_dask(i)
        assert lazy.shape == (level.height, level.width, 3)
        assert lazy.dtype == np.uint8
        whole = slide.read_level(i, 0, 0, level.width, level.height)
        np.testing.assert_array_equal(lazy[10:-10, 20:90].compute(), whole[10:-10, 20:90])
        np.testing.assert_array_equal(lazy[..., 1].compute(), whole[..., 1])


def test_a_closed_slide_says_so(slide: Slide) -> None:
    if slide.backend == "pillow":
        pytest.skip("a plain image lies in memory and can still be read")
    slide.close()
    with pytest.raises(InputError, match="closed"):
        slide.read_region(0, 0, 0, 5, 5)


def test_a_slide_travels_to_other_processes_by_its_path(slide: Slide) -> None:
    if slide.path is None:
        with pytest.raises(TypeError, match="no file"):
            pickle.dumps(slide)
        return
    other = pickle.loads(pickle.dumps(slide))
    assert other.identity == slide.identity
    assert other.mpp == slide.mpp
    part = other.read_region(10, 20, 0, 30, 30)
    np.testing.assert_array_equal(part, slide.read_region(10, 20, 0, 30, 30))
    other.close()
