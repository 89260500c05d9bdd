"""Files that cannot be read are refused in one sentence; wrong suffixes do not matter."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_histosam.errors import InputError
from napari_histosam.slide import open_array, open_slide

if TYPE_CHECKING:
    from pathlib import Path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_slide(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    assert text.endswith(".")
    return text


def test_missing(tmp_path: Path) -> None:
    assert "no file" in refused(tmp_path / "nothing.svs")


@pytest.mark.parametrize("suffix", [".svs", ".tif", ".ndpi", ".png", ".dcm", ".czi", ".xyz", ""])
def test_zero_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    path.touch()
    assert "0 bytes" in refused(path)


@pytest.mark.parametrize("suffix", [".svs", ".txt", ".mrxs", ".vms", ".ome.tif", ".scn"])
def test_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("this is a letter, not a slide\n" * 50)
    refused(path)


def test_folders(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "folder" in refused(folder)
    (folder / "a.txt").write_text("a")
    refused(folder)


def test_zarr_folders_without_an_image(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "bare.zarr"), mode="w")
    assert "no multiscales" in refused(tmp_path / "bare.zarr")
    zarr.create_array(str(tmp_path / "array.zarr"), shape=(9, 9), dtype="u1")
    assert "bare zarr array" in refused(tmp_path / "array.zarr")
    broken = tmp_path / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{ this is not json")
    refused(broken)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_slide_that_was_cut_short(tmp_path: Path, sample: Path, share: float) -> None:
    data = sample.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_tiff_that_was_cut_short(tmp_path: Path, ome_pyramid: Path, share: float) -> None:
    data = ome_pyramid.read_bytes()
    path = tmp_path / "cut.ome.tif"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_an_image_that_was_cut_short(tmp_path: Path, tissue: np.ndarray, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(tissue).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "damaged or incomplete" in refused(path)


def test_bytes_that_only_begin_like_a_known_format(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    for i, head in enumerate([b"II*\0", b"MM\0*", b"II+\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]):
        path = tmp_path / f"noise{i}.svs"
        path.write_bytes(head + noise)
        refused(path)
    path = tmp_path / "noise.dcm"
    path.write_bytes(bytes(128) + b"DICM" + noise)
    assert "DICOM" in refused(path)


def test_an_image_with_too_many_px(tmp_path: Path) -> None:
    # A PNG header alone may claim any size: it must be refused before memory is asked for.
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 99)))
    assert "more px" in refused(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((40, 50, 5), np.uint8), "5 channels"),
        (np.zeros((40, 50), np.float32), "float32"),
        (np.zeros((40, 50), np.uint32), "uint32"),
    ],
)
def test_tiffs_that_are_no_rgb(tmp_path: Path, data: np.ndarray, says: str) -> None:
    import tifffile

    path = tmp_path / "odd.tif"
    options = {"photometric": "minisblack", "planarconfig": "contig"} if data.ndim == 3 else {}
    tifffile.imwrite(path, data, **options)
    assert says in refused(path)


def test_arrays_that_are_no_rgb() -> None:
    for bad in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.int32), np.zeros((0, 5, 3))):
        with pytest.raises(InputError, match="needs RGB"):
            open_array([bad])
    with pytest.raises(InputError, match="fine to coarse"):
        open_array([np.zeros((5, 5, 3), np.uint8)] * 2)
    with pytest.raises(InputError, match="no image"):
        open_array([])


def test_the_suffix_does_not_matter(
    tmp_path: Path, sample: Path, ome_pyramid: Path, tissue: np.ndarray
) -> None:
    for suffix in (".tif", ".dat", ".ome.tif", ".png"):
        path = tmp_path / f"aperio{suffix}"
        shutil.copy(sample, path)
        with open_slide(path) as slide:
            assert (slide.format, slide.mpp) == ("aperio", (0.499, 0.499))
    Image.fromarray(tissue).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "png.svs")
    with open_slide(tmp_path / "png.svs") as slide:
        assert slide.format == "png"
    shutil.copy(ome_pyramid, tmp_path / "ome.jpg")
    with open_slide(tmp_path / "ome.jpg") as slide:
        assert slide.format == "ome-tiff"
        assert len(slide.levels) == 3


@pytest.mark.parametrize("seed", range(24))
def test_random_damage_is_read_or_refused(
    tmp_path: Path, sample: Path, ome_pyramid: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source = (sample, ome_pyramid)[seed % 2]
    data = bytearray(source.read_bytes())
    if seed % 3 == 0:
        del data[int(rng.integers(len(data))) :]
    else:
        # Where the directories are, damage does the most harm.
        first = 0 if seed % 3 == 1 else max(len(data) - 5000, 0)
        for at in rng.integers(first, min(first + 5000, len(data)), 8):
            data[at] = int(rng.integers(256))
    path = tmp_path / source.name
    path.write_bytes(data)
    try:
        with open_slide(path) as slide:
            for i, level in enumerate(slide.levels):
                w, h = min(level.width, 1500), min(level.height, 1500)
                assert slide.read_level(i, 0, 0, w, h).shape == (h, w, 3)
    except InputError as error:
        text = str(error)
        ok = "\n" not in text and len(text) < 400
    else:
        ok = True
    assert ok


def test_a_tile_that_is_damaged_inside_the_file(tmp_path: Path, ome_pyramid: Path) -> None:
    import tifffile

    path = tmp_path / "hurt.ome.tif"
    shutil.copy(ome_pyramid, path)
    with tifffile.TiffFile(path) as tif:
        at, count = tif.pages[0].dataoffsets[7], tif.pages[0].databytecounts[7]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xaa" * count)
    with open_slide(path) as slide, pytest.raises(InputError, match="damaged"):
        slide.read_region(0, 0, 0, slide.width, slide.height)
