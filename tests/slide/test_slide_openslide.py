"""OpenSlide's own traps: latched errors, transparency, fractional positions, properties."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import openslide
import pytest
from PIL import Image

from napari_histosam.errors import InputError
from napari_histosam.slide import open_slide
from napari_histosam.slide.openslide_source import OpenSlideSource
from napari_histosam.slide.source import TileSource

if TYPE_CHECKING:
    from pathlib import Path


class Latching:
    """A real handle that fails at a chosen read and, as OpenSlide does, at every later one."""

    def __init__(self, path: Path, fail_at: int) -> None:
        self._real = openslide.OpenSlide(path)
        self._left = fail_at
        self._lock = threading.Lock()

    def read_region(self, *args: Any) -> Image.Image:
        with self._lock:
            self._left -= 1
            if self._left < 0:
                raise openslide.OpenSlideError("the drive went away")
        return self._real.read_region(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def opener(*fail_at: int) -> tuple[Any, list[Latching]]:
    made: list[Latching] = []

    def make(path: Path) -> Latching:
        made.append(Latching(path, fail_at[min(len(made), len(fail_at) - 1)]))
        return made[-1]

    return make, made


def test_a_latched_handle_is_replaced_once(sample: Path) -> None:
    make, made = opener(2, 10**9)
    source = OpenSlideSource(sample, make)
    assert isinstance(source, TileSource)
    with openslide.OpenSlide(sample) as other:
        want = np.asarray(other.read_region((50, 60), 0, (70, 80)).convert("RGB"))
    for _ in range(5):
        np.testing.assert_array_equal(source.read_region(50, 60, 0, 70, 80), want)
    assert len(made) == 2
    source.close()


def test_a_handle_that_fails_again_is_said_in_one_sentence(sample: Path) -> None:
    make, made = opener(0)
    source = OpenSlideSource(sample, make)
    with pytest.raises(InputError, match=r"cannot be read here \(the drive went away\)"):
        source.read_region(0, 0, 0, 10, 10)
    assert len(made) == 2
    source.close()


def test_threads_share_one_replacement(sample: Path) -> None:
    make, made = opener(20, 10**9)
    source = OpenSlideSource(sample, make)
    with openslide.OpenSlide(sample) as other:
        whole = np.asarray(other.read_region((0, 0), 0, (2220, 2967)).convert("RGB"))
    rng = np.random.default_rng(0)
    spots = [(int(rng.integers(2000)), int(rng.integers(2700))) for _ in range(150)]

    def same(spot: tuple[int, int]) -> bool:
        x, y = spot
        got = source.read_region(x, y, 0, 100, 100)
        return bool((got == whole[y : y + 100, x : x + 100]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, spots))
    assert len(made) == 2
    source.close()


def test_closing_while_threads_read_is_safe(sample: Path) -> None:
    slide = open_slide(sample)
    started = threading.Event()

    def read() -> str:
        try:
            for _ in range(200):
                slide.read_region(0, 0, 0, 400, 400)
                started.set()
        except InputError as error:
            return str(error)
        return "all read"

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(read) for _ in range(4)]
        started.wait(20)
        slide.close()
        answers = {job.result() for job in jobs}
    assert all("closed" in a or a == "all read" for a in answers)
    assert any("closed" in a for a in answers)


class Fake:
    """A handle made of numbers: half of its px are transparent."""

    level_dimensions = ((64, 48), (32, 24))
    level_downsamples = (1.0, 2.0)
    color_profile = None

    def __init__(self, **properties: str) -> None:
        self.properties = {"openslide.vendor": "mirax", **properties}
        self.associated_images: dict[str, Image.Image] = {}

    def set_cache(self, cache: object) -> None:
        assert isinstance(cache, openslide.OpenSlideCache)

    def read_region(self, at: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        px = np.zeros((size[1], size[0], 4), np.uint8)
        px[:, : size[0] // 2] = (10, 20, 30, 255)
        px[0, :] = (100, 100, 100, 128)
        return Image.fromarray(px)


def fake(sample: Path, **properties: str) -> OpenSlideSource:
    return OpenSlideSource(sample, lambda _: Fake(**properties))


def test_transparent_px_show_the_background(sample: Path) -> None:
    source = fake(sample, **{"openslide.background-color": "F0E0D0"})
    assert source.info.background == (0xF0, 0xE0, 0xD0)
    got = source.read_region(0, 0, 0, 10, 4)
    assert (got[1:, :5] == (10, 20, 30)).all()
    assert (got[1:, 5:] == (0xF0, 0xE0, 0xD0)).all()
    mixed = (100 * 128 + np.array([0xF0, 0xE0, 0xD0]) * 127) / 255
    assert np.abs(got[0] - mixed).max() <= 0.5
    assert fake(sample).info.background == (255, 255, 255)
    assert fake(sample, **{"openslide.background-color": "odd"}).info.background == (255,) * 3


def test_properties_that_lie(sample: Path) -> None:
    def mpp(x: str, y: str) -> Any:
        return fake(sample, **{"openslide.mpp-x": x, "openslide.mpp-y": y}).info.mpp

    assert mpp("0.25", "0.25") == (0.25, 0.25)
    assert mpp("0", "0") is None
    assert mpp("unknown", "") is None
    assert mpp("0,2528", "0.2528") == (0.2528, 0.2528)
    assert mpp("-1", "0.5") == (0.5, 0.5)
    box = {
        f"openslide.bounds-{k}": v
        for k, v in zip(("x", "y", "width", "height"), "1234", strict=True)
    }
    assert fake(sample, **box).info.bounds == (1, 2, 3, 4)
    assert fake(sample, **{**box, "openslide.bounds-width": "x"}).info.bounds is None
    assert fake(sample, **{"openslide.objective-power": "40"}).info.objective == 40
    # Without OpenSlide's hash the file's own content stands in.
    assert len(fake(sample).info.identity) == 64


def test_a_key_that_cannot_be_looked_up_is_left_out(sample: Path) -> None:
    class Odd(dict[str, str]):
        # As openslide-python answers for a key that is not UTF-8.
        def __getitem__(self, key: str) -> str:
            if key == "hamamatsu.\ufffd":
                raise KeyError
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            try:
                return self[key]
            except KeyError:
                return default

    handle = Fake()
    handle.properties = Odd({"openslide.vendor": "hamamatsu", "hamamatsu.\ufffd": "x"})
    source = OpenSlideSource(sample, lambda _: handle)
    assert source.info.properties == {"openslide.vendor": "hamamatsu"}


def test_positions_between_px_are_not_interpolated(tmp_path: Path, tissue: np.ndarray) -> None:
    import tifffile

    # 611 / 305 and 700 / 350 differ, so OpenSlide's downsample is not whole.
    path = tmp_path / "odd.tif"
    half = (
        tissue[: 2 * 350, : 2 * 305].reshape(350, 2, 305, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    )
    with tifffile.TiffWriter(path) as tif:
        options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}
        tif.write(tissue, **options)
        tif.write(half, subfiletype=1, **options)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.backend == "openslide"
        assert slide.levels[1].downsample == other.level_downsamples[1] != 2
        np.testing.assert_array_equal(slide.read_level(1, 101, 53, 90, 80), half[53:133, 101:191])
        # A region is what OpenSlide gives for it, interpolated or not.
        want = np.asarray(other.read_region((201, 107), 1, (90, 80)).convert("RGB"))
        np.testing.assert_array_equal(slide.read_region(201, 107, 1, 90, 80), want)


def test_a_file_that_openslide_knows_but_cannot_open(sample: Path) -> None:
    def fail(_: Path) -> Any:
        raise openslide.OpenSlideError("something inside is wrong")

    with pytest.raises(InputError, match="something inside is wrong"):
        OpenSlideSource(sample, fail)


def test_colour_profile(sample: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    class WithProfile(Fake):
        color_profile = SimpleNamespace(tobytes=lambda: profile)

    from napari_histosam.slide import Slide

    slide = Slide(OpenSlideSource(sample, lambda _: WithProfile()), sample)
    assert slide.icc_profile == profile
    apply = slide.icc_transform()
    assert apply is not None
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    got = apply(image)
    assert got.shape == image.shape
    assert got.dtype == np.uint8
    # From sRGB to sRGB nothing changes but rounding.
    assert np.abs(got.astype(int) - image).max() <= 2


def test_useless_colour_profiles_are_left_alone(sample: Path) -> None:
    from PIL import ImageCms

    from napari_histosam.slide.icc import srgb_transform

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert srgb_transform(None) is None
    assert srgb_transform(b"noise") is None
    assert srgb_transform(lab) is None
    with open_slide(sample) as slide:
        assert slide.icc_transform() is None
