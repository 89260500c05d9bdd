"""OME-Zarr and arrays made here, plain images, tissue, the benchmark's mosaic, import time."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_histosam.errors import InputError
from napari_histosam.slide import find_anything, find_tissue, open_array, open_slide


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(ome_zarrs: dict[str, Path], halves: list[np.ndarray], version: str) -> None:
    with open_slide(ome_zarrs[version]) as slide:
        assert (slide.format, slide.backend) == ("ome-zarr", "zarr")
        assert slide.mpp == pytest.approx((0.25, 0.5))  # y is given in nanometres
        assert slide.properties["ome-zarr.version"] == version
        assert [lv.shape for lv in slide.levels] == [h.shape[:2] for h in halves]
        for i, want in enumerate(halves):
            h, w = want.shape[:2]
            np.testing.assert_array_equal(slide.read_region(0, 0, i, w, h), want)
        identity = slide.identity
    inner = {"0.4": ".zattrs", "0.5": "zarr.json"}[version]
    with open_slide(ome_zarrs[version] / inner) as slide:
        assert slide.identity == identity


def test_ome_zarr_16_bit_with_a_stated_range(tmp_path: Path, tissue: np.ndarray) -> None:
    import zarr

    def write(name: str, data: np.ndarray, top: int | None) -> Path:
        group = zarr.open_group(str(tmp_path / name), mode="w")
        group.create_array("s0", data=data.transpose(2, 0, 1), chunks=(1, 200, 200))
        image = {"axes": [{"name": a} for a in "cyx"], "datasets": [{"path": "s0"}]}
        ome: dict[str, Any] = {"version": "0.5", "multiscales": [image]}
        if top is not None:
            ome["omero"] = {"channels": [{"window": {"min": 0, "max": top}}] * 3}
        group.attrs["ome"] = ome
        return tmp_path / name

    deep = tissue.astype(np.uint16)
    for path in (
        write("full", deep << 8, None),
        write("twelve", deep << 4, 4095),
        write("stated full", deep << 8, 65535),
    ):
        with open_slide(path) as slide:
            assert slide.mpp is None  # no unit, no size
            np.testing.assert_array_equal(slide.as_dask().compute(), tissue)
    five = np.zeros((20, 20, 5), np.uint8)
    with pytest.raises(InputError, match="5 channels"):
        open_slide(write("five", five, None))


def test_ome_zarr_inside_a_bioformats_container(
    tmp_path: Path, ome_zarrs: dict[str, Path], tissue: np.ndarray
) -> None:
    import zarr

    root = tmp_path / "container.zarr"
    zarr.open_group(str(root), mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    shutil.copytree(ome_zarrs["0.4"], root / "0")
    with open_slide(root) as slide:
        np.testing.assert_array_equal(slide.as_dask().compute(), tissue)


def test_ome_zarr_with_a_damaged_chunk(tmp_path: Path, ome_zarrs: dict[str, Path]) -> None:
    path = tmp_path / "hurt.ome.zarr"
    shutil.copytree(ome_zarrs["0.5"], path)
    chunk = next(p for p in sorted((path / "0" / "c").rglob("*")) if p.is_file())
    chunk.write_bytes(b"\1\2\3")
    with open_slide(path) as slide, pytest.raises(InputError, match="chunk"):
        slide.read_region(0, 0, 0, slide.width, slide.height)


def test_arrays_of_every_kind(tissue: np.ndarray) -> None:
    h, w = tissue.shape[:2]
    alpha = np.full((h, w, 1), 255, np.uint8)
    kinds = {
        "uint8": tissue,
        "rgba": np.concatenate([tissue, alpha], -1),
        "uint16": tissue.astype(np.uint16) << 8 | 200,
        "float32": (tissue / 255).astype(np.float32),
        "float64": tissue / 255,
    }
    for name, array in kinds.items():
        slide = open_array([array], (0.5, 0.5), name)
        assert slide.format == "napari-layer"
        assert slide.path is None
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, w, h), tissue)
    clear = np.zeros((5, 5, 4), np.uint8)
    assert (open_array([clear]).read_region(0, 0, 0, 5, 5) == 255).all()
    odd = np.full((5, 5, 3), np.nan)
    assert (open_array([odd]).read_region(0, 0, 0, 5, 5) == 0).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "1"])
def test_png_modes(tmp_path: Path, tissue: np.ndarray, mode: str) -> None:
    gray = tissue[..., 0]
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) << 8 | 9)
        want = np.repeat(gray[..., None], 3, 2)
    else:
        image = Image.fromarray(tissue).convert(mode)
        want = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        got = slide.read_region(0, 0, 0, slide.width, slide.height)
    np.testing.assert_array_equal(got, want)


def test_png_with_holes_and_with_a_resolution(tmp_path: Path, tissue: np.ndarray) -> None:
    rgba = np.dstack([tissue, np.full(tissue.shape[:2], 255, np.uint8)])
    rgba[:50, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        assert (slide.read_region(0, 0, 0, 611, 50) == 255).all()
    for dpi, mpp in [(50800, 0.5), (72, None), (96, None)]:
        Image.fromarray(tissue).save(tmp_path / "d.png", dpi=(dpi, dpi))
        with open_slide(tmp_path / "d.png") as slide:
            assert slide.mpp == (mpp and pytest.approx((mpp, mpp), rel=1e-4))


def test_other_plain_images(tmp_path: Path, tissue: np.ndarray) -> None:
    for kind, name in [("BMP", "bmp"), ("JPEG2000", "jpeg2000")]:
        Image.fromarray(tissue).save(tmp_path / "a.dat", kind)
        with open_slide(tmp_path / "a.dat") as slide:
            assert slide.format == name
            np.testing.assert_array_equal(slide.as_dask().compute(), tissue)
    Image.fromarray(tissue).convert("CMYK").save(tmp_path / "c.jpg")
    with open_slide(tmp_path / "c.jpg") as slide:
        assert np.abs(slide.as_dask().compute().astype(int) - tissue).mean() < 20


def test_thumbnail(sample: Path) -> None:
    with open_slide(sample) as slide:
        thumb = slide.thumbnail(300)
        assert thumb.shape == (300, 224, 3)
        fine = slide.read_region(0, 0, 0, slide.width, slide.height)
        assert np.abs(thumb.mean(axis=(0, 1)) - fine.mean(axis=(0, 1))).max() < 1
        assert slide.thumbnail(10_000).shape == fine.shape


def test_tissue_of_a_painted_slide() -> None:
    glass = np.full((800, 1000, 3), 240, np.uint8)
    glass += np.random.default_rng(0).integers(0, 6, glass.shape).astype(np.uint8)
    assert not find_tissue(open_array([glass])).mask.any()
    painted = glass.copy()
    painted[200:500, 300:700] = (190, 90, 160)
    found = find_tissue(open_array([painted]), 500)
    assert found.scale == (2, 2)
    assert found.mask.shape == (400, 500)
    truth = np.zeros((400, 500), bool)
    truth[100:250, 150:350] = True
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    assert found.fraction(350, 250, 650, 450) == pytest.approx(1)
    assert found.fraction(0, 0, 100, 100) == 0
    assert found.fraction(-300, 300, 700, 400) == pytest.approx(0.4, abs=0.02)


def test_tissue_of_the_sample(sample: Path) -> None:
    with open_slide(sample) as slide:
        found = find_tissue(slide, 512)
        assert 0.3 < found.mask.mean() < 0.98


def load_benchmark() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "make_pyramid.py"
    spec = importlib.util.spec_from_file_location("make_pyramid", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("step", [2, 4, 0])
def test_the_mosaic_of_the_benchmarks(tmp_path: Path, step: int) -> None:
    import openslide
    import tifffile

    path = tmp_path / "mosaic.tif"
    sizes = load_benchmark().make_pyramid(path, 5001, 4000, step, period=1024)
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["mosaic.tif"]
    with tifffile.TiffFile(path) as tif, openslide.OpenSlide(path) as other:
        levels = tif.series[0].levels
        assert [lv.shape[:2] for lv in levels] == [(h, w) for w, h in sizes]
        assert list(other.level_dimensions) == sizes
        coarse = levels[-1].asarray()
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert [(lv.width, lv.height) for lv in slide.levels] == sizes
        last = len(sizes) - 1
        np.testing.assert_array_equal(slide.read_level(last, 0, 0, *sizes[-1]), coarse)
        # The tissue repeats, and coarser levels show the same place.
        one = slide.read_region(100, 200, 0, 300, 300)
        again = slide.read_region(100 + 1024, 200 + 2048, 0, 300, 300)
        np.testing.assert_array_equal(again, one)
        assert one.std() > 5
        if last:
            fine = slide.read_level(0, 0, 0, 512, 512).astype(float)
            fine = fine.reshape(512 // step, step, 512 // step, step, 3).mean(axis=(1, 3))
            side = 512 // step
            assert np.abs(slide.read_level(1, 0, 0, side, side) - fine).mean() < 6


def test_importing_is_quick_and_light() -> None:
    code = (
        "import sys, napari_histosam.slide;"
        "heavy = {'torch','zarr','dask','cv2','openslide','skimage','tifffile','scipy','PIL',"
        "'napari','qtpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_is_not_glass_is_found_however_small_or_grey():
    picture = np.full((400, 500, 3), 243, np.uint8)
    picture[100:104, 50:54] = (150, 90, 160)  # a lone cell
    picture[300:340, 300:360] = (205, 205, 205)  # grey, and darker than the glass
    with open_array([picture], None, "specks") as slide:
        found = find_anything(slide, 250)
    assert found.fraction(48, 98, 56, 106) > 0.9
    assert found.fraction(305, 305, 355, 335) == pytest.approx(1)
    assert found.fraction(0, 0, 500, 90) == 0
    assert found.fraction(600, 0, 700, 90) == 0
    for value, share in ((240, 0), (120, 1)):
        with open_array([np.full((90, 90, 3), value, np.uint8)], None, "plain") as slide:
            assert find_anything(slide).fraction(0, 0, 90, 90) == pytest.approx(share)
