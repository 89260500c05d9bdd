"""Every file of the shared folder against OpenSlide, tifffile, zarr or Pillow reading the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_histosam.slide import Slide, open_slide

if TYPE_CHECKING:
    from pathlib import Path

BY_OPENSLIDE = [
    "real/CMU-1-Small-Region.svs",
    "real/camelyon16_lowres_jpeg.dcm",
    "real/test3-DAPI-2-387.ndpi",
    "derived/cmu1_generic_pyramid.tif",
    "derived/cmu1_leica_like.scn",
    "derived/cmu1_philips_like.tiff",
]
BY_TIFFFILE = [
    "derived/cmu1_pyramid.ome.tif",
    "derived/rings_mosaic_shared.ome.tif",
    "real/kidney-48-5_ihc_plain.tif",
]


def flat(image: Image.Image, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    under = Image.new("RGB", image.size, colour)
    under.paste(image, mask=image.getchannel("A"))
    return np.asarray(under)


def compare_with_openslide(path: Path, slide: Slide) -> None:
    import openslide

    with openslide.OpenSlide(path) as other:
        assert [(lv.width, lv.height) for lv in slide.levels] == list(other.level_dimensions)
        assert [lv.downsample for lv in slide.levels] == list(other.level_downsamples)
        assert slide.vendor == slide.format == other.properties["openslide.vendor"]
        assert slide.mpp is not None
        for got, axis in zip(slide.mpp, "xy", strict=True):
            assert got == pytest.approx(float(other.properties[f"openslide.mpp-{axis}"]), rel=1e-6)
        assert slide.identity == other.properties["openslide.quickhash-1"]
        assert set(slide.associated) == set(other.associated_images)
        for name in slide.associated:
            np.testing.assert_array_equal(
                slide.associated_image(name), flat(other.associated_images[name])
            )
        rng = np.random.default_rng(1)
        for i, level in enumerate(slide.levels):
            whole = flat(other.read_region((0, 0), i, (level.width, level.height)))
            np.testing.assert_array_equal(slide.as_dask(i).compute(), whole)
            for _ in range(6):
                # Over every edge too.
                x = int(rng.integers(-300, slide.width))
                y = int(rng.integers(-300, slide.height))
                w, h = (int(v) for v in rng.integers(1, 400, 2))
                want = flat(other.read_region((x, y), i, (w, h)))
                np.testing.assert_array_equal(slide.read_region(x, y, i, w, h), want)


@pytest.mark.parametrize("name", BY_OPENSLIDE)
def test_vendor_files(shared: Path, name: str) -> None:
    with open_slide(shared / name) as slide:
        assert slide.backend == "openslide"
        compare_with_openslide(shared / name, slide)


def test_the_shipped_sample(sample: Path) -> None:
    with open_slide(sample) as slide:
        compare_with_openslide(sample, slide)
        assert slide.format == "aperio"
        assert slide.mpp == (0.499, 0.499)
        assert slide.objective == 20
        assert slide.associated == ("label", "macro", "thumbnail")
        assert slide.properties["aperio.AppMag"] == "20"


@pytest.mark.parametrize("name", BY_TIFFFILE)
def test_tiff_files(shared: Path, name: str) -> None:
    import tifffile

    with open_slide(shared / name) as slide, tifffile.TiffFile(shared / name) as tif:
        assert slide.backend == "tifffile"
        levels = tif.series[0].levels
        assert [lv.shape for lv in slide.levels] == [lv.shape[:2] for lv in levels]
        rng = np.random.default_rng(2)
        for i, page in enumerate(levels):
            whole = page.asarray()
            np.testing.assert_array_equal(slide.as_dask(i).compute(), whole)
            for _ in range(6):
                row, col = (int(rng.integers(0, n - 20)) for n in whole.shape[:2])
                x = round(col * slide.levels[i].scale[0])
                y = round(row * slide.levels[i].scale[1])
                got = slide.read_region(x, y, i, 300, 200)
                want = np.full((200, 300, 3), 255, np.uint8)
                part = whole[row : row + 200, col : col + 300]
                want[: part.shape[0], : part.shape[1]] = part
                np.testing.assert_array_equal(got, want)
    assert slide.mpp == {"cmu": (0.499,) * 2, "rin": (0.5,) * 2}.get(name.split("/")[1][:3])


def test_ome_zarr_file(shared: Path) -> None:
    import zarr

    path = shared / "derived" / "cmu1_v04.ome.zarr"
    group = zarr.open_group(str(path), mode="r")
    with open_slide(path) as slide:
        assert (slide.format, slide.backend, slide.mpp) == ("ome-zarr", "zarr", (0.499, 0.499))
        assert len(slide.levels) == 4
        for i in range(4):
            want = np.asarray(group[str(i)]).transpose(1, 2, 0)
            np.testing.assert_array_equal(slide.as_dask(i).compute(), want)
    with open_slide(path / ".zattrs") as slide:
        assert slide.width == 1536


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_plain_image_files(shared: Path, suffix: str) -> None:
    path = shared / "derived" / f"cmu1_crop_nompp.{suffix}"
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert slide.format == {"png": "png", "jpg": "jpeg"}[suffix]
        want = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 1024, 1024), want)


def test_every_file_opens_or_is_refused_in_one_sentence(shared: Path) -> None:
    from napari_histosam.errors import InputError

    seen = 0
    for path in sorted([*shared.glob("real/*"), *shared.glob("derived/*")]):
        if path.suffix in (".json", ".geojson"):
            with pytest.raises(InputError, match=r"^[^\n]+\.$"):
                open_slide(path)
            continue
        with open_slide(path) as slide:
            assert max(slide.thumbnail(64).shape) == 64
            seen += 1
    assert seen >= 13


def test_bounds_of_a_slide_larger_than_its_scan(shared: Path) -> None:
    with open_slide(shared / "derived" / "cmu1_leica_like.scn") as slide:
        assert slide.bounds == (0, 0, 2220, 2967)
        assert (slide.read_region(2230, 0, 0, 100, 100) == 255).all()


def test_dicom_by_its_folder_and_with_square_px(shared: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "series"
    folder.mkdir()
    shutil.copy(shared / "real" / "camelyon16_lowres_jpeg.dcm", folder / "a")
    shutil.copy(folder / "a", folder / "b")
    (folder / "notes.txt").write_text("not DICOM")
    with open_slide(folder) as slide:
        assert slide.format == "dicom"
        assert slide.mpp == pytest.approx((28.969, 28.968))
        window = slide.window(500, 300, 28.969, (100, 100))
        assert window.scale == pytest.approx((1.0, 28.969 / 28.968))
